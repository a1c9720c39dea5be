// Open addressing with linear probing, at most half full.
#include "text/vocabulary.h"

#include <bit>

#include "base/base.h"

namespace fettle {
namespace {

constexpr size_t kMaxTreeName = 1024;  // bytes that may be looked at again from every place of a text
constexpr size_t kMaxTreeBytes = size_t{32} << 20;

size_t slots_for(size_t n) { return std::bit_ceil(n * 2 + 8); }
int hex_digit(char c) noexcept { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }
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

std::vector<bool> writable_tokens(const TokenizerSpec& spec, const TokenRules& rules) {
  std::vector<bool> writable(spec.tokens.size(), true);
  for (size_t id = 0; id < spec.types.size(); ++id) {
    const TokenType type = spec.types[id];
    writable[id] = type != TokenType::control && type != TokenType::unused && type != TokenType::byte;
  }
  for (const AddedToken& token : rules.added) {
    if (token.outside) writable[static_cast<size_t>(token.id)] = false;
  }
  return writable;
}

PrefixTree word_tree(const TokenizerSpec& spec, const std::vector<bool>& writable) {
  size_t n_bytes = 0;
  std::vector<PrefixTree::Entry> entries;
  entries.reserve(spec.tokens.size());
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& name = spec.tokens[id];
    if (!writable[id]) continue;
    if (name.size() > kMaxTreeName) {
      throw refused(spec.place, "token " + std::to_string(id) + " has a name of " + std::to_string(name.size()) + " bytes");
    }
    n_bytes += name.size();
    entries.push_back({name, static_cast<int>(id)});
  }
  if (n_bytes > kMaxTreeBytes) throw refused(spec.place, "the tokens' names are " + std::to_string(n_bytes) + " bytes long");
  return PrefixTree(std::move(entries));
}

std::string byte_token_name(uint8_t byte) {
  constexpr char digits[] = "0123456789ABCDEF";
  return {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
}

int byte_of_token_name(std::string_view name) noexcept {
  if (name.size() != 6 || !name.starts_with("<0x") || name[5] != '>') return -1;
  const int high = hex_digit(name[3]), low = hex_digit(name[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
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
