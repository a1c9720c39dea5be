// Open addressing with linear probing, at most half full.
#include "text/vocabulary.h"

#include <bit>

#include "base/base.h"

namespace fettle {
namespace {

size_t slots_for(size_t n) { return std::bit_ceil(n * 2 + 8); }
uint64_t pair_of(int left, int right) { return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right); }

}  // namespace

TokenTable::TokenTable(const std::vector<std::string>& names) : names_(names), slots_(slots_for(names.size())), mask_(slots_.size() - 1) {
  for (size_t id = 0; id < names.size(); ++id) {
    if (names[id].empty()) continue;
    const uint64_t hash = hash64(names[id]);
    const auto tag = static_cast<uint32_t>(hash >> 32);
    size_t at = hash & mask_;
    while (slots_[at].id >= 0 && !(slots_[at].hash == tag && names_[static_cast<size_t>(slots_[at].id)] == names[id]))
      at = (at + 1) & mask_;
    if (slots_[at].id < 0) slots_[at] = {tag, static_cast<int32_t>(id)};
  }
}

int TokenTable::find(std::string_view name) const noexcept {
  if (name.empty()) return -1;
  const uint64_t hash = hash64(name);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  for (size_t at = hash & mask_; slots_[at].id >= 0; at = (at + 1) & mask_) {
    if (slots_[at].hash == tag && names_[static_cast<size_t>(slots_[at].id)] == name) return slots_[at].id;
  }
  return -1;
}

MergeTable::MergeTable(size_t n_merges)
    : slots_(slots_for(n_merges)), mask_(slots_.size() - 1), shift_(64 - std::countr_zero(slots_.size())) {}

void MergeTable::add(int left, int right, Merge merge) noexcept {
  const uint64_t pair = pair_of(left, right);
  size_t at = home(pair);
  while (slots_[at].pair != UINT64_MAX) {
    if (slots_[at].pair == pair) return;
    at = (at + 1) & mask_;
  }
  slots_[at] = {pair, merge};
}

MergeTable::Merge MergeTable::find(int left, int right) const noexcept {
  const uint64_t pair = pair_of(left, right);
  for (size_t at = home(pair); slots_[at].pair != UINT64_MAX; at = (at + 1) & mask_) {
    if (slots_[at].pair == pair) return slots_[at].merge;
  }
  return {};
}

}  // namespace fettle
