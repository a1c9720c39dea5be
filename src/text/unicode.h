// Unicode as the tokenizers need it: the few character classes that pre-tokenizers speak of (base/utf8.h decodes).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace fettle {

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

uint8_t character_class(uint32_t value) noexcept;  // 0: punctuation, symbols, controls, unassigned, invalid bytes
// As Hugging Face's tokenizers see characters: P and ASCII's symbols; \w (letters, marks, decimal and letter numbers, connectors).
bool is_punctuation(uint32_t value) noexcept;
bool is_word(uint32_t value) noexcept;
// General categories Mn; Cc, Cf, Cn, Co and Cs.
bool is_nonspacing_mark(uint32_t value) noexcept;
bool is_other(uint32_t value) noexcept;
void append_utf8(std::string& out, uint32_t value);

// Simple case mapping, one character to one.
uint32_t to_lower(uint32_t value) noexcept;
uint32_t to_upper(uint32_t value) noexcept;

}  // namespace fettle
