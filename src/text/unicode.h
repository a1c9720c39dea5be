// Unicode as the tokenizers need it: decoding that never fails, and the few character classes that pre-tokenizers speak of.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace fettle {

// One character of a text. A byte that is not part of valid UTF-8 is a character of its own with value kInvalidByte.
struct Character {
  uint32_t value;
  uint32_t n_bytes;
};
inline constexpr uint32_t kInvalidByte = 0x110000;

// Bits, since a regex class such as [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] joins several.
enum CharacterClass : uint8_t {
  kUpper = 1,        // Lu, Lt
  kLower = 2,        // Ll
  kOtherLetter = 4,  // Lm, Lo
  kLetter = 7,
  kMark = 8,      // M
  kNumber = 16,   // N
  kSpace = 32,    // White_Space
  kNewline = 64,  // CR, LF; kSpace is set as well
};

// text must not be empty. Overlong forms, surrogates and values beyond U+10FFFF are invalid.
Character decode_character(std::string_view text) noexcept;
uint8_t character_class(uint32_t value) noexcept;  // 0: punctuation, symbols, controls, unassigned, invalid bytes
void append_utf8(std::string& out, uint32_t value);

// Simple case mapping, one character to one.
uint32_t to_lower(uint32_t value) noexcept;
uint32_t to_upper(uint32_t value) noexcept;

}  // namespace fettle
