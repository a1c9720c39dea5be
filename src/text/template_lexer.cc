// The lexer: one pass, linear in the source. Source of the rules: Jinja2's documentation ("Whitespace Control", "Expressions") and
// behaviour. Not handled: \N{name} escapes, identifiers that Unicode would normalize.
#include "text/template_lexer.h"

#include <charconv>
#include <limits>

#include "base/error.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace fettle::jinja {

void fail_at(const std::string& place, int line, const std::string& what, const std::string& hint) {
  throw refused(place + ", line " + std::to_string(line), what, hint);
}

namespace {

constexpr size_t kMaxSource = size_t{1} << 20;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_word(uint32_t c) { return c == '_' || (character_class(c) & (kLetter | kMark | kNumber)) != 0; }

// Line ends become \n, and the last one goes, as Jinja2 does it.
std::string normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& place) : text_(normalized(source)), place_(place) {}
  std::vector<Token> run();

 private:
  [[noreturn]] void fail(const std::string& what) const { fail_at(place_, line_, what); }
  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  bool looking_at(std::string_view what) const { return rest().starts_with(what); }
  void advance(size_t n);
  void skip_space();
  void push(Tok kind, std::string text = {});
  void data(size_t end, char sign, bool is_print);
  void comment();
  size_t raw_tag(size_t at, std::string_view word, bool opens) const;
  void raw(size_t after_begin);
  void inside(bool is_print);
  bool tag_end(bool is_print);
  void number();
  void word();
  void quoted();
  uint32_t hex(std::string_view digits) const;
  size_t escape(std::string_view body, std::string& out) const;
  void op();

  std::string text_;
  const std::string& place_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::string open_;  // brackets waiting to be closed
  std::vector<Token> tokens_;
};

void Lexer::advance(size_t n) {
  for (size_t i = at_; i < at_ + n; ++i) line_ += text_[i] == '\n';
  at_ += n;
}

void Lexer::skip_space() { advance(space_at_start(rest())); }

void Lexer::push(Tok kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

// The text up to `end`, where a tag begins whose sign is '-', '+' or 0.
void Lexer::data(size_t end, char sign, bool is_print) {
  std::string_view piece = std::string_view(text_).substr(at_, end - at_);
  if (sign == '-') {
    piece.remove_suffix(space_at_end(piece));
  } else if (sign != '+' && !is_print) {
    const size_t line_at = piece.rfind('\n') + 1;  // npos + 1 == 0
    if ((line_at > 0 || line_starting_) && space_at_start(piece.substr(line_at)) == piece.size() - line_at)
      piece = piece.substr(0, line_at);
  }
  if (!piece.empty()) push(Tok::data, std::string(piece));
  advance(end - at_);
}

void Lexer::comment() {
  const size_t start = at_, end = text_.find("#}", at_);
  if (end == std::string::npos) fail("a comment is not closed with '#}'");
  const char sign = end > start ? text_[end - 1] : ' ';
  advance(end + 2 - at_);
  if (sign == '-') {
    skip_space();
  } else if (sign != '+' && looking_at("\n")) {
    advance(1);
  }
  line_starting_ = text_[at_ - 1] == '\n';
}

// The end of "{% word %}" at `at`, or npos. White space that the tag swallows is not part of it.
size_t Lexer::raw_tag(size_t at, std::string_view word, bool opens) const {
  const std::string_view text = text_;
  at += 2;
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
  at += space_at_start(text.substr(std::min(at, text.size())));
  if (!text.substr(std::min(at, text.size())).starts_with(word)) return std::string::npos;
  at += word.size();
  at += space_at_start(text.substr(at));
  if (at < text.size() && (text[at] == '-' || (!opens && text[at] == '+'))) ++at;
  return text.substr(at).starts_with("%}") ? at + 2 : std::string::npos;
}

void Lexer::raw(size_t after_begin) {
  advance(after_begin - at_);
  if (text_[at_ - 3] == '-') skip_space();
  line_starting_ = text_[at_ - 1] == '\n';
  for (size_t tag = text_.find("{%", at_); tag != std::string::npos; tag = text_.find("{%", tag + 2)) {
    const size_t end = raw_tag(tag, "endraw", false);
    if (end == std::string::npos) continue;
    data(tag, text_[tag + 2], false);
    advance(end - at_);
    if (text_[at_ - 3] == '-') {
      skip_space();
    } else if (text_[at_ - 3] != '+' && looking_at("\n")) {
      advance(1);
    }
    line_starting_ = text_[at_ - 1] == '\n';
    return;
  }
  fail("a raw block is not closed with '{% endraw %}'");
}

std::vector<Token> Lexer::run() {
  while (at_ < text_.size()) {
    size_t begin = text_.find('{', at_);
    while (begin != std::string::npos &&
           (begin + 1 == text_.size() || std::string_view("{%#").find(text_[begin + 1]) == std::string::npos)) {
      begin = text_.find('{', begin + 1);
    }
    if (begin == std::string::npos) {
      push(Tok::data, std::string(rest()));
      break;
    }
    const char kind = text_[begin + 1];
    const char sign = begin + 2 < text_.size() && (text_[begin + 2] == '-' || text_[begin + 2] == '+') ? text_[begin + 2] : '\0';
    data(begin, sign, kind == '{');
    const size_t raw_end = kind == '%' ? raw_tag(begin, "raw", true) : std::string::npos;
    if (raw_end != std::string::npos) {
      raw(raw_end);
      continue;
    }
    advance(sign != '\0' ? 3 : 2);
    if (kind == '#') {
      comment();
    } else {
      push(kind == '{' ? Tok::print_begin : Tok::tag_begin);
      inside(kind == '{');
    }
  }
  push(Tok::end);
  return std::move(tokens_);
}

bool Lexer::tag_end(bool is_print) {
  const std::string_view close = is_print ? "}}" : "%}";
  const bool signed_end = looking_at("-") || (!is_print && looking_at("+"));
  if (!rest().substr(signed_end ? 1 : 0).starts_with(close)) return false;
  const char sign = signed_end ? text_[at_] : '\0';
  push(is_print ? Tok::print_end : Tok::tag_end);
  advance(signed_end ? 3 : 2);
  if (sign == '-') {
    skip_space();
  } else if (sign == '\0' && !is_print && looking_at("\n")) {
    advance(1);
  }
  line_starting_ = text_[at_ - 1] == '\n';
  return true;
}

void Lexer::inside(bool is_print) {
  const int opened = line_;
  open_.clear();
  for (;;) {
    skip_space();
    if (at_ == text_.size()) {
      fail_at(place_, opened, is_print ? "'{{' is not closed with '}}'" : "'{%' is not closed with '%}'");
    }
    if (open_.empty() && tag_end(is_print)) return;
    const char c = text_[at_];
    if (is_digit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      quoted();
    } else if (is_word(decode_character(rest()).value)) {
      word();
    } else {
      op();
    }
  }
}

// Digits with single underscores between them.
size_t digits_at(std::string_view text) {
  size_t n = 0;
  while (n < text.size() &&
         (is_digit(text[n]) || (text[n] == '_' && n > 0 && text[n - 1] != '_' && n + 1 < text.size() && is_digit(text[n + 1]))))
    ++n;
  return n;
}

std::string without_underscores(std::string_view text) {
  std::string plain(text);
  std::erase(plain, '_');
  return plain;
}

void Lexer::number() {
  const std::string_view text = rest();
  size_t n = digits_at(text);
  const size_t whole_digits = n;
  bool real = false;
  if (at_ == 0 || text_[at_ - 1] != '.') {
    if (n + 1 < text.size() && text[n] == '.' && is_digit(text[n + 1])) {
      n += 1 + digits_at(text.substr(n + 1));
      real = true;
    }
    size_t e = n + 1;
    if (n < text.size() && (text[n] == 'e' || text[n] == 'E')) {
      if (e < text.size() && (text[e] == '+' || text[e] == '-')) ++e;
      if (e < text.size() && is_digit(text[e])) {
        n = e + digits_at(text.substr(e));
        real = true;
      }
    }
  }
  Token token{real ? Tok::real : Tok::whole, line_};
  if (real) {
    const std::string plain = without_underscores(text.substr(0, n));
    if (std::from_chars(plain.data(), plain.data() + plain.size(), token.real).ec != std::errc()) fail("number is out of range: " + plain);
  } else {
    const size_t prefix = text.size() > 2 && text[0] == '0' ? std::string_view("xXoObB").find(text[1]) : std::string_view::npos;
    const int base = prefix == std::string_view::npos ? 10 : prefix < 2 ? 16 : prefix < 4 ? 8 : 2;
    size_t end = whole_digits;
    if (base != 10) {
      end = 2;
      while (end < text.size() && (std::isxdigit(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_')) ++end;
    }
    const std::string plain = without_underscores(text.substr(base == 10 ? 0 : 2, end - (base == 10 ? 0 : 2)));
    const auto [stop, error] = std::from_chars(plain.data(), plain.data() + plain.size(), token.whole, base);
    const bool zeros = base == 10 && plain.size() > 1 && plain[0] == '0' && token.whole != 0;
    if (error != std::errc() || stop != plain.data() + plain.size() || zeros) {
      fail("bad or too large number: " + std::string(text.substr(0, std::min<size_t>(end, 40))));
    }
    n = end;
  }
  tokens_.push_back(std::move(token));
  advance(n);
}

void Lexer::word() {
  const std::string_view text = rest();
  size_t n = 0;
  while (n < text.size()) {
    const Character c = decode_character(text.substr(n));
    if (!is_word(c.value)) break;
    if (n == 0 && (character_class(c.value) & (kMark | kNumber)) != 0) fail("a name cannot begin like this");
    n += c.n_bytes;
  }
  push(Tok::name, std::string(text.substr(0, n)));
  advance(n);
}

uint32_t Lexer::hex(std::string_view digits) const {
  uint32_t value = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || stop != digits.data() + digits.size() || value > 0x10FFFF) fail("a text has a broken \\x, \\u or \\U escape");
  return value;
}

// body begins behind a backslash. Returns how many bytes the escape takes; an unknown one stays as it is, backslash and all.
size_t Lexer::escape(std::string_view body, std::string& out) const {
  constexpr std::string_view kNames = "\\'\"abfnrtv", kMeanings = "\\'\"\a\b\f\n\r\t\v";
  const char c = body[0];
  if (const size_t known = kNames.find(c); known != std::string_view::npos) {
    out += kMeanings[known];
    return 1;
  }
  if (c == '\n') return 1;
  const size_t n_hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (n_hex > 0) {
    if (body.size() <= n_hex) fail("a text has a broken \\x, \\u or \\U escape");
    uint32_t value = hex(body.substr(1, n_hex));
    size_t used = n_hex + 1;
    if (value >= 0xD800 && value < 0xDC00 && body.size() >= used + 6 && body.substr(used, 2) == "\\u") {  // a pair for one character
      const uint32_t low = hex(body.substr(used + 2, 4));
      if (low >= 0xDC00 && low < 0xE000) {
        value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        used += 6;
      }
    }
    if (value >= 0xD800 && value < 0xE000) fail("a text has half of a surrogate pair");
    append_utf8(out, value);
    return used;
  }
  if (c == 'N') fail("\\N escapes are not supported");
  size_t n = 0;
  uint32_t value = 0;
  for (; n < 3 && n < body.size() && body[n] >= '0' && body[n] < '8'; ++n) value = value * 8 + static_cast<uint32_t>(body[n] - '0');
  if (n > 0) {
    append_utf8(out, value);
    return n;
  }
  out += '\\';
  return 0;
}

void Lexer::quoted() {
  const char quote = text_[at_];
  size_t end = at_ + 1;
  while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
  if (end >= text_.size()) fail("a text is not closed with " + std::string(1, quote));
  const std::string_view body = std::string_view(text_).substr(at_ + 1, end - at_ - 1);
  std::string value;
  for (size_t i = 0; i < body.size();) {
    if (body[i] == '\\') {
      i += 1 + escape(body.substr(i + 1), value);
    } else {
      value += body[i++];
    }
  }
  push(Tok::text, std::move(value));
  advance(end + 1 - at_);
}

void Lexer::op() {
  constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                             "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
  for (const std::string_view op : kOperators) {
    if (!looking_at(op)) continue;
    const char c = op[0];
    if (c == '(' || c == '[' || c == '{') open_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open_.empty() || open_.back() != c) fail("unexpected '" + std::string(op) + "'");
      open_.pop_back();
    }
    push(Tok::op, std::string(op));
    advance(op.size());
    return;
  }
  fail("unexpected character '" + std::string(rest().substr(0, decode_character(rest()).n_bytes)) + "'");
}

}  // namespace

std::vector<Token> lex(std::string_view source, const std::string& place) {
  if (source.size() > kMaxSource) throw refused(place, "a chat template of " + std::to_string(source.size()) + " bytes is too long");
  if (!is_utf8(source)) throw refused(place, "the chat template is not UTF-8");
  return Lexer(source, place).run();
}

}  // namespace fettle::jinja
