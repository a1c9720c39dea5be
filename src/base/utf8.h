// Decoding of UTF-8 that never fails.
#pragma once
#include <cstdint>
#include <string_view>

namespace fettle {

// One character of a text. A byte that is not part of valid UTF-8 is a character of its own with value kInvalidByte.
struct Character {
  uint32_t value;
  uint32_t n_bytes;
};
inline constexpr uint32_t kInvalidByte = 0x110000;

// text must not be empty. Overlong forms, surrogates and values beyond U+10FFFF are invalid (Unicode 15, table 3-7).
Character decode_character(std::string_view text) noexcept;
bool valid_utf8(std::string_view text);

}  // namespace fettle
