// The array is Darts' (Susumu Yata's darts-clone): a unit holds its label, the offset to its children, and whether one of them is a value.
// It comes from a file, so every step checks that it stays inside.
#include "text/charsmap.h"

#include <cstring>

#include "base/base.h"

namespace fettle {
namespace {

bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
size_t offset(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & 1u << 9) >> 6); }

}  // namespace

CharsMap::CharsMap(std::string_view compiled, const std::string& place) {
  if (compiled.empty()) return;
  uint32_t n_bytes = 0;
  if (compiled.size() >= 4) std::memcpy(&n_bytes, compiled.data(), 4);
  if (compiled.size() < 4 || n_bytes % 4 != 0 || n_bytes == 0 || n_bytes > compiled.size() - 4) {
    throw refused(place, "the tokenizer's compiled character map of " + std::to_string(compiled.size()) + " bytes is cut off or broken");
  }
  units_.resize(n_bytes / 4);
  std::memcpy(units_.data(), compiled.data() + 4, n_bytes);
  replacements_ = compiled.substr(4 + n_bytes);
  replacements_ += '\0';
}

std::optional<CharsMap::Match> CharsMap::find(std::string_view text, bool longest) const noexcept {
  std::optional<Match> best;
  if (units_.empty()) return best;
  size_t at = offset(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != 0; ++i) {
    at ^= static_cast<uint8_t>(text[i]);
    if (at >= units_.size() || label(units_[at]) != static_cast<uint8_t>(text[i])) break;
    const uint32_t unit = units_[at];
    at ^= offset(unit);
    if (!has_value(unit)) continue;
    if (at >= units_.size()) break;
    const size_t where = units_[at] & ~(1u << 31);
    if (where >= replacements_.size()) break;
    best = Match{i + 1, std::string_view(replacements_.data() + where)};
    if (!longest) break;
  }
  return best;
}

}  // namespace fettle
