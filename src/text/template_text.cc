// Characters of texts. Case mapping is one to one but for the German sharp s; Python's other special casings are not handled.
#include "text/template_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdio>

#include "text/unicode.h"

namespace fettle::jinja {
namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
}

void append_upper(std::string& out, Character c, std::string_view bytes) {
  if (c.value == 0xDF) {
    out += "SS";
  } else if (c.value == kInvalidByte) {
    out += bytes;
  } else {
    append_utf8(out, to_upper(c.value));
  }
}

void append_lower(std::string& out, Character c, std::string_view bytes) {
  if (c.value == kInvalidByte) {
    out += bytes;
  } else {
    append_utf8(out, to_lower(c.value));
  }
}

// f(character, its bytes, the one before)
template <class F>
void each_character(std::string_view text, F f) {
  uint32_t previous = 0;
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(text.substr(at));
    f(c, text.substr(at, c.n_bytes), previous);
    previous = c.value;
    at += c.n_bytes;
  }
}

}  // namespace

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(text.substr(at));
    if (c.value == kInvalidByte) return false;
    at += c.n_bytes;
  }
  return true;
}

bool is_space(uint32_t character) { return (character >= 0x1C && character <= 0x1F) || (character_class(character) & kSpace) != 0; }

bool is_printable(uint32_t character) {
  if (character < 0x80) return character >= 0x20 && character < 0x7F;
  if (character >= kInvalidByte) return false;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(character))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

size_t space_at_start(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Character c = decode_character(text.substr(at));
    if (!is_space(c.value)) break;
    at += c.n_bytes;
  }
  return at;
}

size_t space_at_end(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t start = character_before(text, end);
    if (!is_space(decode_character(text.substr(start)).value)) break;
    end = start;
  }
  return text.size() - end;
}

size_t n_characters(std::string_view text) {
  if (is_ascii(text)) return text.size();
  size_t n = 0;
  each_character(text, [&](Character, std::string_view, uint32_t) { ++n; });
  return n;
}

size_t character_offset(std::string_view text, size_t index) {
  if (is_ascii(text)) return std::min(index, text.size());
  size_t at = 0;
  for (; index > 0 && at < text.size(); --index) at += decode_character(text.substr(at)).n_bytes;
  return at;
}

size_t character_before(std::string_view text, size_t end) {
  for (size_t n = 2; n <= 4 && n <= end; ++n) {
    if (decode_character(text.substr(end - n, n)).n_bytes == n) return end - n;
  }
  return end - 1;
}

std::string lowered(std::string_view text) {
  std::string out;
  each_character(text, [&](Character c, std::string_view bytes, uint32_t) { append_lower(out, c, bytes); });
  return out;
}

std::string uppered(std::string_view text) {
  std::string out;
  each_character(text, [&](Character c, std::string_view bytes, uint32_t) { append_upper(out, c, bytes); });
  return out;
}

std::string capitalized(std::string_view text) {
  const size_t first = character_offset(text, 1);
  return uppered(text.substr(0, first)) + lowered(text.substr(first));
}

std::string titled(std::string_view text) {
  std::string out;
  each_character(text, [&](Character c, std::string_view bytes, uint32_t previous) {
    const bool in_word = previous != 0 && (character_class(previous) & (kUpper | kLower)) != 0;
    in_word ? append_lower(out, c, bytes) : append_upper(out, c, bytes);
  });
  return out;
}

void append_hex(std::string& out, const char* format, uint32_t value) {
  char buffer[16];
  out.append(buffer, static_cast<size_t>(std::snprintf(buffer, sizeof buffer, format, value)));
}

}  // namespace fettle::jinja
