// Scanners for the pre-tokenizer regexes. Each function below is one alternative of a regex, tried in the regex's order, and returns where
// its match ends, or its start when it does not match. Backtracking is worked out by hand, so that every scanner is linear in the text.
// Sources: the pattern strings in the models' own tokenizer.json.
#include "text/pretokenize.h"

#include <string>

#include "text/regexes.h"
#include "text/unicode.h"

namespace fettle {
namespace {

struct Known {
  std::string_view regex;
  PreTokenizer rule;
};
using Family = PreTokenizer::Family;
constexpr Known kKnown[] = {
    {kGpt2Regex, {.family = Family::gpt2}},
    {kLlama3Regex, {.family = Family::cl100k, .max_digits = 3}},
    {kQwen2Regex, {.family = Family::cl100k, .max_digits = 1}},
    {kQwen35Regex, {.family = Family::cl100k, .max_digits = 1, .marks = true}},
    {kTekkenRegex, {.family = Family::cased, .max_digits = 1, .slash = true}},
    {kO200kRegex, {.family = Family::cased, .max_digits = 3, .slash = true, .contractions = true}},
};

class Scanner {
 public:
  Scanner(const PreTokenizer& rule, std::string_view text) : rule_(rule), text_(text), letters_(rule.marks ? kLetter | kMark : kLetter) {}

  size_t gpt2(size_t start) const noexcept {
    if (rule_.max_digits == 1 && is(start, kNumber)) return next(start);
    if (const size_t end = contraction(start, false); end > start) return end;
    const size_t body = text_[start] == ' ' ? start + 1 : start;
    if (body < text_.size()) {
      if (is(body, kLetter)) return run(body, kLetter);
      if (is(body, kNumber) && rule_.max_digits == 0) return run(body, kNumber);
      if (!is(body, kLetter | kNumber | kSpace)) return punctuation(body);
    }
    return spaces(start);
  }

  size_t cl100k(size_t start) const noexcept {
    if (const size_t end = contraction(start, true); end > start) return end;
    if (const size_t end = word(start); end > start) return end;
    return common(start);
  }

  size_t cased(size_t start) const noexcept {
    if (const size_t end = cased_word(start); end > start) return rule_.contractions ? contraction(end, true) : end;
    return common(start);
  }

 private:
  uint8_t classes(size_t at) const noexcept { return character_class(decode_character(text_.substr(at)).value); }
  bool is(size_t at, int mask) const noexcept { return at < text_.size() && (classes(at) & mask) != 0; }
  size_t next(size_t at) const noexcept { return at + decode_character(text_.substr(at)).n_bytes; }
  size_t run(size_t at, int mask) const noexcept {
    while (is(at, mask)) at = next(at);
    return at;
  }
  // [^\s\p{L}\p{N}]+ (letters may include marks)
  size_t punctuation(size_t at) const noexcept {
    while (at < text_.size() && !is(at, letters_ | kNumber | kSpace)) at = next(at);
    return at;
  }

  // '(s|t|re|ve|m|ll|d). Case-folding also takes U+017F (long s) for an s.
  size_t contraction(size_t start, bool fold) const noexcept {
    if (start >= text_.size() || text_[start] != '\'') return start;
    const auto lower = [&](size_t i) -> char {
      if (i >= text_.size()) return 0;
      return fold && text_[i] >= 'A' && text_[i] <= 'Z' ? static_cast<char>(text_[i] + 32) : text_[i];
    };
    if (fold && text_.substr(start + 1, 2) == "\xC5\xBF") return start + 3;
    const char a = lower(start + 1), b = lower(start + 2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return start + 2;
    if ((b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l')) return start + 3;
    return start;
  }

  // [^\r\n\p{L}\p{N}]?\p{L}+ ; where marks are letters too, a mark in front and a mark within the word give the same match.
  size_t word(size_t start) const noexcept {
    size_t at = start;
    if (!is(at, letters_)) {
      if (is(at, kNewline | kNumber)) return start;
      at = next(at);
      if (!is(at, letters_)) return start;
    }
    return run(at, letters_);
  }

  // X?U*L+ | X?U+L* with X = [^\r\n\p{L}\p{N}], U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L = [\p{Ll}\p{Lm}\p{Lo}\p{M}]
  size_t cased_word(size_t start) const noexcept {
    constexpr int upper = kUpper | kOtherLetter | kMark, lower = kLower | kOtherLetter | kMark;
    const bool optional_first = !is(start, kNewline | kLetter | kNumber);
    const size_t after = optional_first ? next(start) : start;
    for (const size_t from : {after, start}) {
      if (const size_t end = mixed(from, upper, lower); end > from) return end;
    }
    for (const size_t from : {after, start}) {
      if (is(from, upper)) return run(run(from, upper), lower);
    }
    return start;
  }
  // U*L+: U* takes all it can and gives back until an L follows.
  size_t mixed(size_t from, int upper, int lower) const noexcept {
    size_t at = from, last_both = text_.size();
    while (is(at, upper)) {
      if (is(at, lower)) last_both = at;
      at = next(at);
    }
    if (is(at, lower)) return run(at, lower);
    return last_both < text_.size() ? next(last_both) : from;
  }

  // \p{N}{1,k}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
  size_t common(size_t start) const noexcept {
    if (is(start, kNumber)) {
      size_t at = start;
      for (int i = 0; i < rule_.max_digits && is(at, kNumber); ++i) at = next(at);
      return at;
    }
    const size_t body = text_[start] == ' ' ? start + 1 : start;
    if (const size_t end = punctuation(body); end > body) {
      size_t at = end;
      while (at < text_.size() && (text_[at] == '\r' || text_[at] == '\n' || (rule_.slash && text_[at] == '/'))) ++at;
      return at;
    }
    return spaces(start);
  }

  // A run of white space: up to its last line end where the family says so; else all but the last character, which belongs to the word
  // that follows; all of it at the text's end.
  size_t spaces(size_t start) const noexcept {
    size_t at = start, last = start, line_end = 0;
    while (is(at, kSpace)) {
      last = at;
      at = next(at);
      if (is(last, kNewline)) line_end = at;
    }
    if (line_end > 0 && rule_.family != Family::gpt2) return line_end;
    const bool at_end = at == text_.size() || (rule_.family == Family::gpt2 && rule_.max_digits == 1 && is(at, kNumber));
    if (at_end || last == start) return at > start ? at : next(start);
    return last;
  }

  const PreTokenizer& rule_;
  std::string_view text_;
  int letters_;
};

}  // namespace

std::optional<PreTokenizer> find_scanner(std::string_view regex) {
  std::string plain;  // line ends may be written out
  for (const char c : regex) {
    if (c == '\r' || c == '\n') {
      plain += c == '\r' ? "\\r" : "\\n";
    } else {
      plain += c;
    }
  }
  for (const Known& known : kKnown) {
    if (known.regex == plain) return known.rule;
  }
  return std::nullopt;
}

size_t pre_token_bytes(const PreTokenizer& rule, std::string_view text, size_t start) noexcept {
  const Scanner scanner(rule, text);
  switch (rule.family) {
    case Family::gpt2:
      return scanner.gpt2(start) - start;
    case Family::cl100k:
      return scanner.cl100k(start) - start;
    case Family::cased:
      return scanner.cased(start) - start;
  }
  return text.size() - start;
}

}  // namespace fettle
