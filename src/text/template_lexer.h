// Cuts the source of a chat template into tokens as Jinja2's lexer does with trim_blocks and lstrip_blocks on: what stands between the tags
// is already trimmed when it comes out.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::jinja {

enum class Tok : uint8_t { data, print_begin, print_end, tag_begin, tag_end, name, text, whole, real, op, end };

struct Token {
  Tok kind = Tok::end;
  int line = 1;
  std::string text;  // data, names, operators, texts without quotes and escapes
  int64_t whole = 0;
  double real = 0;
};

// "place, line 5": where errors of templates are.
[[noreturn]] void fail_at(const std::string& place, int line, const std::string& what, const std::string& hint = {});

// The last token is `end`. Throws Error{refused}.
std::vector<Token> lex(std::string_view source, const std::string& place);

}  // namespace fettle::jinja
