// A search sees a window of the text, which doubles as long as the match depends on where the window ends: a pattern that looks ahead costs
// what it needs to see, and the rest of a long text nothing. Patterns that scan far ahead at every match would still be quadratic; what all
// windows together may hold is limited, and windows stay small once that is used up.
#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "base/base.h"
#include "base/utf8.h"

namespace fettle {
namespace {

constexpr size_t kMaxExpression = 64 << 10;
constexpr uint32_t kMatchLimit = 2'000'000, kDepthLimit = 1'000'000, kHeapKibibytes = 256 << 10;
constexpr size_t kFirstWindow = 256, kLastWindow = 2048;

const pcre2_code* code_of(const std::shared_ptr<const void>& code) { return static_cast<const pcre2_code*>(code.get()); }

// What one pass over a text needs.
struct Search {
  std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data;
  std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context;
  explicit Search(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free),
        context(pcre2_match_context_create(nullptr), pcre2_match_context_free) {
    if (!data || !context) throw failed({}, "no memory for a regular expression");
    pcre2_set_depth_limit(context.get(), kDepthLimit);
    pcre2_set_heap_limit(context.get(), kHeapKibibytes);
  }
};

// The end of a window of some n bytes from `at`, not inside a character.
size_t window_end(std::string_view text, size_t at, size_t n) {
  if (n >= text.size() - at) return text.size();
  size_t end = at + n;
  while (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) ++end;
  return end;
}

}  // namespace

Regex::Regex(std::string_view oniguruma, std::string place) : place_(std::move(place)) {
  if (oniguruma.size() > kMaxExpression) throw refused(place_, "a regular expression is longer than 64 KiB");
  const std::string expression = pcre_of_oniguruma(oniguruma, place_);
  int error = 0;
  size_t at = 0;
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(pcre2_compile_context_create(nullptr),
                                                                                   pcre2_compile_context_free);
  if (!context) throw failed(place_, "no memory for a regular expression");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 100);
  pcre2_code* code = pcre2_compile(PCRE2_SPTR(expression.data()), expression.size(), options, &error, &at, context.get());
  if (code == nullptr) {
    PCRE2_UCHAR message[200] = {};
    pcre2_get_error_message(error, message, sizeof message);
    throw refused(place_, "the regular expression '" + std::string(oniguruma.substr(0, 200)) +
                              "' cannot be read: " + reinterpret_cast<const char*>(message));
  }
  code_ = std::shared_ptr<const void>(code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); });
}

void Regex::each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const {
  size_t begin = 0;
  for (size_t at = 0; at <= text.size();) {
    const Character c = at < text.size() ? decode_character(text.substr(at)) : Character{kInvalidByte, 1};
    if (c.value == kInvalidByte) {
      if (at > begin || text.empty()) {
        each_match_of_valid(text.substr(begin, at - begin), [&](size_t from, size_t to) { found(begin + from, begin + to); });
      }
      begin = at + 1;
    }
    at += c.n_bytes;
  }
}

void Regex::each_match_of_valid(std::string_view text, FunctionRef<void(size_t, size_t)> found) const {
  const pcre2_code* code = code_of(code_);
  const Search search(code);
  size_t at = 0, last_end = SIZE_MAX, window = kFirstWindow;
  size_t left = text.size() * 32 + (size_t{64} << 20);  // bytes that windows may show
  while (at <= text.size()) {
    const size_t end = window_end(text, at, window);
    const bool whole = end == text.size() || (left < window && window >= kLastWindow);
    left -= std::min(left, end - at);
    pcre2_set_match_limit(search.context.get(), static_cast<uint32_t>(std::min<size_t>(2000 + 20 * (end - at), kMatchLimit)));
    const uint32_t options = PCRE2_NO_UTF_CHECK | (whole ? 0 : PCRE2_PARTIAL_HARD);
    const int n = pcre2_match(code, PCRE2_SPTR(text.data()), end, at, options, search.data.get(), search.context.get());
    if (n == PCRE2_ERROR_PARTIAL) {
      window *= 2;
      continue;
    }
    if (n == PCRE2_ERROR_NOMATCH) {
      if (end == text.size()) return;
      at = end;  // nothing begins before it
      window = kFirstWindow;
      continue;
    }
    if (n < 0 && window > kLastWindow) {  // too much at once: what lies further ahead does not count any more
      window = kLastWindow;
      left = 0;
      continue;
    }
    if (n < 0) throw refused(place_, "a regular expression of the tokenizer takes too long on this text");
    const size_t* where = pcre2_get_ovector_pointer(search.data.get());
    const size_t from = where[0], to = std::max(where[0], where[1]);  // \K may place the start behind the end
    if (from == to && to == last_end) {
      if (at >= text.size()) return;
      at += decode_character(text.substr(at)).n_bytes;
      continue;
    }
    found(from, to);
    at = last_end = to;
    window = kFirstWindow;
  }
}

void require_few_rules(size_t n, const std::string& place) {
  if (n > kMostRules) throw refused(place, "the tokenizer has " + std::to_string(n) + " rules for one purpose");
}

void made_too_long(const std::string& place) { throw refused(place, "the tokenizer's rules make a text many times as long"); }

Matcher::Matcher(const PatternText& pattern, const std::string& place) : place_(place), literal_(pattern.regex ? "" : pattern.text) {
  if (pattern.regex) regex_.emplace(pattern.text, place);
}

void Matcher::each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const {
  if (regex_) return regex_->each_match(text, found);
  if (literal_.empty()) return;
  for (size_t at = 0; (at = text.find(literal_, at)) != std::string_view::npos; at += literal_.size()) found(at, at + literal_.size());
}

void Matcher::replace(std::string& text, std::string_view by, size_t most) const {
  std::string out;
  size_t copied = 0;
  bool any = false;
  each_match(text, [&](size_t from, size_t to) {
    any = true;
    if (out.size() + by.size() > most) made_too_long(place_);
    out.append(text, copied, from - copied).append(by);
    copied = to;
  });
  if (!any) return;
  out.append(text, copied);
  text = std::move(out);
}

}  // namespace fettle
