// Character classes. ASCII comes from a table built at compile time, everything else from utf8proc (Unicode 15).
#include "text/unicode.h"

#include <utf8proc.h>

#include <array>

namespace fettle {
namespace {

constexpr std::array<uint8_t, 128> ascii_classes() {
  std::array<uint8_t, 128> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[c] = kLower;
  for (int c = 'A'; c <= 'Z'; ++c) table[c] = kUpper;
  for (int c = '0'; c <= '9'; ++c) table[c] = kNumber;
  for (int c = 9; c <= 13; ++c) table[c] = kSpace;
  table[' '] = kSpace;
  table['\n'] = table['\r'] = kSpace | kNewline;
  return table;
}
constexpr std::array<uint8_t, 128> kAscii = ascii_classes();

bool is_wide_space(uint32_t c) noexcept {
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

}  // namespace

uint8_t character_class(uint32_t value) noexcept {
  if (value < 128) return kAscii[value];
  if (value >= kInvalidByte) return 0;
  if (is_wide_space(value)) return kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(value))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return kUpper;
    case UTF8PROC_CATEGORY_LL:
      return kLower;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kOtherLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    default:
      return 0;
  }
}

namespace {
utf8proc_category_t category(uint32_t value) noexcept {
  return value < kInvalidByte ? utf8proc_category(static_cast<utf8proc_int32_t>(value)) : UTF8PROC_CATEGORY_CN;
}
}  // namespace

bool is_punctuation(uint32_t value) noexcept {
  if (value < 128) return value > ' ' && value < 127 && (kAscii[value] & (kLetter | kNumber)) == 0;
  const utf8proc_category_t c = category(value);
  return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_word(uint32_t value) noexcept {
  if ((character_class(value) & (kLetter | kMark)) != 0) return true;
  switch (category(value)) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    case UTF8PROC_CATEGORY_SO:  // letters in circles and squares are alphabetic
      return (value >= 0x24B6 && value <= 0x24E9) || (value >= 0x1F130 && value <= 0x1F149) || (value >= 0x1F150 && value <= 0x1F169) ||
             (value >= 0x1F170 && value <= 0x1F189);
    default:
      return value == 0x200C || value == 0x200D;  // joiners
  }
}

bool is_nonspacing_mark(uint32_t value) noexcept { return category(value) == UTF8PROC_CATEGORY_MN; }

bool is_other(uint32_t value) noexcept {
  const utf8proc_category_t c = category(value);
  return c == UTF8PROC_CATEGORY_CN || c >= UTF8PROC_CATEGORY_CC;
}

void append_utf8(std::string& out, uint32_t value) {
  utf8proc_uint8_t bytes[4];
  const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(value < kInvalidByte ? value : 0xFFFD), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

uint32_t to_lower(uint32_t value) noexcept {
  return value < kInvalidByte ? static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(value))) : value;
}
uint32_t to_upper(uint32_t value) noexcept {
  return value < kInvalidByte ? static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(value))) : value;
}

}  // namespace fettle
