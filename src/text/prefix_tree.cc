// Nodes lie breadth first, so that siblings are neighbours: a child is found by bisection among them.
#include "text/prefix_tree.h"

#include <algorithm>

namespace fettle {

PrefixTree::PrefixTree(std::vector<Entry> entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<Range> ranges{{0, entries.size(), 0}};
  nodes_.push_back({0, -1, 0, 0});
  // ranges[i] are the entries below nodes_[i]
  for (size_t i = 0; i < ranges.size(); ++i) {
    auto [at, end, depth] = ranges[i];
    for (; at < end && entries[at].text.size() == depth; ++at) {
      if (depth > 0 && nodes_[i].value < 0) nodes_[i].value = entries[at].value;
    }
    nodes_[i].first_child = static_cast<uint32_t>(nodes_.size());
    while (at < end) {
      const auto byte = static_cast<uint8_t>(entries[at].text[depth]);
      size_t stop = at + 1;
      while (stop < end && static_cast<uint8_t>(entries[stop].text[depth]) == byte) ++stop;
      nodes_.push_back({0, -1, 0, byte});
      ranges.push_back({at, stop, depth + 1});
      at = stop;
    }
    nodes_[i].n_children = static_cast<uint16_t>(nodes_.size() - nodes_[i].first_child);
  }
}

uint32_t PrefixTree::child(uint32_t node, uint8_t byte) const noexcept {
  const Node& parent = nodes_[node];
  uint32_t low = parent.first_child, high = low + parent.n_children;
  const uint32_t end = high;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (nodes_[middle].byte < byte) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < end && nodes_[low].byte == byte ? low : kNone;
}

uint32_t PrefixTree::walk(uint32_t node, std::string_view text) const noexcept {
  for (const char c : text) {
    node = child(node, static_cast<uint8_t>(c));
    if (node == kNone) return kNone;
  }
  return node;
}

std::pair<int, size_t> PrefixTree::longest(std::string_view text, uint32_t node) const noexcept {
  std::pair<int, size_t> best{-1, 0};
  for (size_t i = 0; i < text.size(); ++i) {
    node = child(node, static_cast<uint8_t>(text[i]));
    if (node == kNone) break;
    if (value(node) >= 0) best = {value(node), i + 1};
  }
  return best;
}

}  // namespace fettle
