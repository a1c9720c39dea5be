// Regular expressions of tokenizers: written for Oniguruma (Ruby's syntax), run by PCRE2 with limits, since they come with a model.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/function_ref.h"
#include "text/token_rules.h"

namespace fettle {

class Regex {
 public:
  // Error{refused} naming `place` when the expression is malformed or larger than any in use.
  Regex(std::string_view oniguruma, std::string place);
  // Calls found(begin, end), in bytes, for each match from left to right; an empty match right behind another match is none. Bytes that are
  // no UTF-8 match nothing, and no match reaches across them. Error{refused} when the expression asks for too much work on this text.
  void each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

 private:
  void each_match_of_valid(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;
  std::shared_ptr<const void> code_;
  std::string place_;
};

// Oniguruma's syntax in PCRE2's, as far as tokenizers use it (oniguruma.cc). Error{refused} where there is no equivalent.
std::string pcre_of_oniguruma(std::string_view expression, const std::string& place);

// A tokenizer's rules are few, and make a text so many times as long at most: a few lines of a hostile file could else double a text again
// and again.
constexpr size_t kMostRules = 256;
constexpr size_t most_made_of(size_t bytes) { return bytes * 64 + 1024; }
void require_few_rules(size_t n, const std::string& place);  // Error{refused}
[[noreturn]] void made_too_long(const std::string& place);   // throws Error{refused}

// A text or an expression to be found.
class Matcher {
 public:
  Matcher(const PatternText& pattern, const std::string& place);
  void each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;  // as Regex's; an empty text is never found
  // Error{refused} where the text would become longer than `most` bytes.
  void replace(std::string& text, std::string_view by, size_t most) const;

 private:
  std::string place_, literal_;
  std::optional<Regex> regex_;
};

}  // namespace fettle
