// Texts as Python counts them: by characters (code points), with Python's idea of white space and of what can be printed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fettle::jinja {

bool is_utf8(std::string_view text);
bool is_space(uint32_t character);             // str.isspace
bool is_printable(uint32_t character);         // str.isprintable
size_t space_at_start(std::string_view text);  // bytes of white space
size_t space_at_end(std::string_view text);
size_t n_characters(std::string_view text);
// The byte where character `index` begins; the size of the text when there are fewer.
size_t character_offset(std::string_view text, size_t index);
// Where the character begins that ends at byte `end` > 0.
size_t character_before(std::string_view text, size_t end);
std::string lowered(std::string_view text);
std::string uppered(std::string_view text);
std::string capitalized(std::string_view text);
std::string titled(std::string_view text);
void append_hex(std::string& out, const char* format, uint32_t value);  // by printf's format

}  // namespace fettle::jinja
