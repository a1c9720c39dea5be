// A set of byte strings, walked byte by byte: which of them a text begins with. Built in one pass over the sorted strings.
#pragma once
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace fettle {

class PrefixTree {
 public:
  struct Entry {
    std::string_view text;  // needed while the tree is built
    int value;              // >= 0
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  PrefixTree() : PrefixTree(std::vector<Entry>{}) {}
  // Of equal texts the first entry counts; empty texts are left out.
  explicit PrefixTree(std::vector<Entry> entries);

  static constexpr uint32_t kRoot = 0;
  uint32_t child(uint32_t node, uint8_t byte) const noexcept;             // kNone when there is none
  uint32_t walk(uint32_t node, std::string_view text) const noexcept;     // kNone when the text leads out of the tree
  int value(uint32_t node) const noexcept { return nodes_[node].value; }  // -1: no string ends here
  // The longest string that `text` begins with, walking on from `node`: value and length, {-1, 0} when none.
  std::pair<int, size_t> longest(std::string_view text, uint32_t node = kRoot) const noexcept;

 private:
  struct Node {
    uint32_t first_child;  // its children follow one another, sorted by byte
    int32_t value;
    uint16_t n_children;
    uint8_t byte;
  };
  std::vector<Node> nodes_;
};

}  // namespace fettle
