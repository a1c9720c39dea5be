// Row texts made comparable. Not handled: synonyms, word order, languages' own rules of folding (Turkish dotless i).
#include "text/row_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/base.h"
#include "text/unicode.h"

namespace fettle {
namespace {

std::string casefolded(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x80; })) return lower(text);
  utf8proc_uint8_t* mapped = nullptr;
  auto options = utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
  auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), utf8proc_ssize_t(text.size()), &mapped, options);
  std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (length < 0) return lower(text);  // the reader lets only valid UTF-8 in; a caller's own text may be anything
  return {reinterpret_cast<const char*>(mapped), size_t(length)};
}

// Characters of `text` that `wanted` accepts, other runs replaced by one space between them.
template <class Wanted>
std::string joined_by_spaces(std::string_view text, Wanted wanted) {
  std::string result;
  result.reserve(text.size());
  bool gap = false;
  while (!text.empty()) {
    Character c = decode_character(text);
    if (wanted(character_class(c.value))) {
      if (gap && !result.empty()) result += ' ';
      result.append(text, 0, c.n_bytes);
      gap = false;
    } else {
      gap = true;
    }
    text.remove_prefix(c.n_bytes);
  }
  return result;
}

}  // namespace

std::string folded(std::string_view text) {
  return joined_by_spaces(casefolded(text), [](uint8_t kind) { return !(kind & kSpace); });
}

std::string words_of(std::string_view folded_text) {
  std::string words = joined_by_spaces(folded_text, [](uint8_t kind) { return kind & (kLetter | kMark | kNumber); });
  return words.empty() ? std::string(folded_text) : words;
}

std::string question_of(const Example& example) {
  std::string text;
  for (const Message& message : std::span(example.messages).first(example.messages.size() - 1)) {
    if (message.role == "system") continue;
    if (!text.empty()) text += '\n';
    text += message.content;
  }
  return text;
}

uint64_t exact_question(const Example& example) {
  std::string text;
  for (const Message& message : std::span(example.messages).first(example.messages.size() - 1))
    text += message.role + '\n' + folded(message.content) + '\n';  // a folded text has no line ends
  return hash64(text);
}

uint64_t split_key(const Example& example, uint64_t seed) { return hash64(words_of(folded(question_of(example))), seed); }

}  // namespace fettle
