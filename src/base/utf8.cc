#include "base/utf8.h"

#include <cstring>

namespace fettle {

Character decode_character(std::string_view text) noexcept {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const uint32_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < n) return {kInvalidByte, 1};
  uint32_t value = lead & (0x7Fu >> n);
  for (uint32_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {kInvalidByte, 1};
    value = value << 6 | (byte(i) & 0x3F);
  }
  const bool overlong = (n == 3 && value < 0x800) || (n == 4 && value < 0x10000);
  if (overlong || (value >= 0xD800 && value < 0xE000) || value > 0x10FFFF) return {kInvalidByte, 1};
  return {value, n};
}

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    uint64_t eight;
    if (text.size() >= 8 && (std::memcpy(&eight, text.data(), 8), (eight & 0x8080808080808080ULL) == 0)) {
      text.remove_prefix(8);
      continue;
    }
    const Character c = decode_character(text);
    if (c.value == kInvalidByte) return false;
    text.remove_prefix(c.n_bytes);
  }
  return true;
}

}  // namespace fettle
