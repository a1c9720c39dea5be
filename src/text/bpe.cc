// Byte-level BPE. Short pre-tokens (nearly all) are merged in a small array, each round scanning for the lowest rank; long ones (a line of
// dashes, base64, an attack) with a linked list and a heap, O(n log n). Both take the leftmost pair on ties.
// Source: Sennrich et al. 2016; Radford et al. 2019 (bytes as letters); behaviour as Hugging Face's tokenizers.
#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <queue>

#include "base/base.h"
#include "text/unicode.h"

namespace fettle {
namespace {

constexpr size_t kShort = 48;  // bytes; beyond, the heap is faster

bool is_own_letter(int byte) { return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174; }

struct Letters {
  std::array<uint16_t, 256> letter{};
  std::array<int16_t, 512> byte{};
  Letters() {
    byte.fill(-1);
    uint16_t next = 256;
    for (int b = 0; b < 256; ++b) {
      letter[b] = is_own_letter(b) ? static_cast<uint16_t>(b) : next++;
      byte[letter[b]] = static_cast<int16_t>(b);
    }
  }
};
const Letters& letters() {
  static const Letters table;
  return table;
}

bool may_be_text(const TokenizerSpec& spec, int id) {
  if (id < 0 || spec.types.empty()) return id >= 0;
  return spec.types[static_cast<size_t>(id)] != TokenType::control;
}

}  // namespace

uint32_t letter_of_byte(uint8_t byte) noexcept { return letters().letter[byte]; }
int byte_of_letter(uint32_t letter) noexcept { return letter < 512 ? letters().byte[letter] : -1; }

void append_bytes_of_name(std::string& out, std::string_view name) {
  while (!name.empty()) {
    const Character c = decode_character(name);
    const int byte = c.value == kInvalidByte ? -1 : byte_of_letter(c.value);
    if (byte >= 0) {
      out.push_back(static_cast<char>(byte));
    } else {
      out.append(name.substr(0, c.n_bytes));
    }
    name.remove_prefix(c.n_bytes);
  }
}

struct BytePairEncoder::Work {
  std::vector<int> symbols;
  std::vector<MergeTable::Merge> merges;  // merges[i] joins symbols[i] and symbols[i + 1]
  std::string name;
};

BytePairEncoder::BytePairEncoder(const TokenizerSpec& spec, const TokenTable& table)
    : spec_(spec), table_(table), merges_(spec.merges.size()) {
  const auto pre = find_pre_tokenizer(spec.pre);
  if (!pre) {
    throw refused(spec.place, "unknown pre-tokenizer '" + spec.pre + "'",
                  "its splitting rule is not known to this version; guessing would change what the model reads");
  }
  pre_ = *pre;
  std::string name;
  for (int b = 0; b < 256; ++b) {
    name.clear();
    append_utf8(name, letter_of_byte(static_cast<uint8_t>(b)));
    byte_ids_[b] = table_.find(name);
  }
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) add_merge(spec.merges[rank], static_cast<int>(rank), name);
}

void BytePairEncoder::add_merge(const std::string& merge, int rank, std::string& joined) {
  const size_t space = merge.find(' ', 1);
  if (space == std::string::npos || space + 1 == merge.size()) {
    throw refused(spec_.place, "merge " + std::to_string(rank) + " is not two tokens: '" + merge + "'");
  }
  const std::string_view left = std::string_view(merge).substr(0, space), right = std::string_view(merge).substr(space + 1);
  joined.assign(left).append(right);
  const int a = table_.find(left), b = table_.find(right), ab = table_.find(joined);
  if (a < 0 || b < 0 || ab < 0) throw refused(spec_.place, "merge " + std::to_string(rank) + " names an unknown token: '" + merge + "'");
  merges_.add(a, b, {rank, ab});
}

void BytePairEncoder::encode(std::string_view text, std::vector<int>& ids) const {
  Work work;
  for (size_t at = 0; at < text.size();) {
    const size_t n = pre_token_bytes(pre_, text, at);
    encode_pre_token(text.substr(at, n), work, ids);
    at += n;
  }
}

void BytePairEncoder::encode_pre_token(std::string_view text, Work& work, std::vector<int>& ids) const {
  if (pre_.ignore_merges) {
    work.name.clear();
    for (const char c : text) append_utf8(work.name, letter_of_byte(static_cast<uint8_t>(c)));
    const int id = table_.find(work.name);
    if (id >= 0 && may_be_text(spec_, id)) {
      ids.push_back(id);
      return;
    }
  }
  work.symbols.clear();
  for (const char c : text) {
    const int id = byte_ids_[static_cast<uint8_t>(c)];
    if (id >= 0) work.symbols.push_back(id);
  }
  if (work.symbols.size() > kShort) {
    merge_long(work);
  } else if (work.symbols.size() > 1) {
    merge_short(work);
  }
  ids.insert(ids.end(), work.symbols.begin(), work.symbols.end());
}

void BytePairEncoder::merge_short(Work& work) const {
  auto& symbols = work.symbols;
  auto& merges = work.merges;
  merges.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) merges.push_back(merges_.find(symbols[i], symbols[i + 1]));
  for (;;) {
    // a missing merge has rank -1, which is the largest unsigned number
    size_t best = merges.size();
    uint32_t best_rank = UINT32_MAX;
    for (size_t i = 0; i < merges.size(); ++i) {
      const auto rank = static_cast<uint32_t>(merges[i].rank);
      if (rank < best_rank) {
        best_rank = rank;
        best = i;
      }
    }
    if (best == merges.size()) return;
    symbols[best] = merges[best].id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    merges.erase(merges.begin() + static_cast<std::ptrdiff_t>(best));
    if (best > 0) merges[best - 1] = merges_.find(symbols[best - 1], symbols[best]);
    if (best < merges.size()) merges[best] = merges_.find(symbols[best], symbols[best + 1]);
  }
}

void BytePairEncoder::merge_long(Work& work) const {
  struct Node {
    int symbol, previous, next;
  };
  struct Candidate {
    int rank, left, id;
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  const int n = static_cast<int>(work.symbols.size());
  std::vector<Node> nodes;
  nodes.reserve(work.symbols.size());
  for (int i = 0; i < n; ++i) nodes.push_back({work.symbols[static_cast<size_t>(i)], i - 1, i + 1 < n ? i + 1 : -1});
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int left) {
    if (left < 0 || nodes[left].next < 0) return;
    const auto merge = merges_.find(nodes[left].symbol, nodes[nodes[left].next].symbol);
    if (merge.rank >= 0) queue.push({merge.rank, left, merge.id});
  };
  for (int i = 0; i + 1 < n; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Node& left = nodes[top.left];
    if (left.symbol < 0 || left.next < 0) continue;
    Node& right = nodes[left.next];
    const auto merge = merges_.find(left.symbol, right.symbol);
    if (merge.rank != top.rank) continue;  // one of the two has been merged since
    right.symbol = -1;
    left.symbol = merge.id;
    left.next = right.next;
    if (left.next >= 0) nodes[left.next].previous = top.left;
    offer(left.previous);
    offer(top.left);
  }
  work.symbols.clear();
  for (int i = 0; i >= 0; i = nodes[i].next) work.symbols.push_back(nodes[i].symbol);
}

}  // namespace fettle
