// Flat hash tables for vocabularies. A model has some 50,000 to 250,000 tokens and as many merges; building these tables is most of what
// opening a tokenizer costs, hence open addressing over the strings where they lie, and no node is ever allocated.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/prefix_tree.h"
#include "text/token_rules.h"
#include "text/tokenizer.h"

namespace fettle {

// Token name -> id. Keeps a reference to `names`, which must outlive it. Of equal names the first counts; empty names are never found.
class TokenTable {
 public:
  explicit TokenTable(const std::vector<std::string>& names);
  int find(std::string_view name) const noexcept;  // -1 when absent

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  const std::vector<std::string>& names_;
  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

// Which tokens the model may turn a text into. Control and byte tokens are nobody's to spell, and a tokenizer.json's added tokens may lie
// outside of the model's own vocabulary.
std::vector<bool> writable_tokens(const TokenizerSpec& spec, const TokenRules& rules);
// The names of those. Throws Error{refused} when they are too long to be held in a tree.
PrefixTree word_tree(const TokenizerSpec& spec, const std::vector<bool>& writable);

// "<0xAB>", and back: -1 when it is no such name.
std::string byte_token_name(uint8_t byte);
int byte_of_token_name(std::string_view name) noexcept;

// (left id, right id) -> rank and id of the merged token.
class MergeTable {
 public:
  struct Merge {
    int32_t rank = -1;
    int32_t id = -1;
  };
  explicit MergeTable(size_t n_merges);
  // Of equal pairs the first counts. At most n_merges may be added.
  void add(int left, int right, Merge merge) noexcept;
  // rank < 0 when there is no such merge
  Merge find(int left, int right) const noexcept;

 private:
  struct Slot {
    uint64_t pair = UINT64_MAX;
    Merge merge;
  };
  size_t home(uint64_t pair) const noexcept { return (pair * 0x9E3779B97F4A7C15u) >> shift_; }
  std::vector<Slot> slots_;
  size_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace fettle
