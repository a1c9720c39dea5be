// A training row for people: lines of text, below each a line that marks what of it the model learns to say, where there is any. Long parts
// that are only read are shortened in the middle.
#include <utf8proc.h>

#include "base/progress.h"
#include "text/dataset.h"
#include "text/unicode.h"

namespace fettle {
namespace {

constexpr size_t kShown = 120;  // columns of a part that is only read, before and after the cut
constexpr size_t kWidth = 76;   // columns of a line: terminals have 80, and a log line's own marks

std::string in_one_line(std::string_view text) {
  std::string line;
  for (const char c : harmless(text, text.size())) {
    if (c == '\n')
      line += "\\n";
    else if (c == '\t')
      line += "\\t";
    else
      line += c;
  }
  return line;
}

size_t columns(std::string_view line) {
  size_t n = 0;
  for (size_t at = 0; at < line.size();) {
    const Character c = decode_character(line.substr(at));
    n += static_cast<size_t>(std::max(0, utf8proc_charwidth(static_cast<utf8proc_int32_t>(c.value))));
    at += c.n_bytes;
  }
  return n;
}

// The first `n` characters, or the last.
std::string_view head(std::string_view line, size_t n) {
  size_t at = 0;
  for (; n > 0 && at < line.size(); --n) at += decode_character(line.substr(at)).n_bytes;
  return line.substr(0, at);
}
std::string_view tail(std::string_view line, size_t n) {
  size_t begin = line.size();
  for (; n > 0 && begin > 0; --n) {
    do --begin;
    while (begin > 0 && (static_cast<uint8_t>(line[begin]) & 0xC0) == 0x80);
  }
  return line.substr(begin);
}

}  // namespace

std::string show_row(const Tokenizer& tokenizer, const TokenRow& row) {
  std::string shown, text, marks;
  const auto end_line = [&] {
    marks.erase(marks.find_last_not_of(' ') + 1);
    shown += text + "\n" + marks + (marks.empty() ? "" : "\n");
    text.clear(), marks.clear();
  };
  for (size_t begin = 0; begin < row.ids.size();) {
    const bool learned = row.labels[begin] != -100;
    size_t end = begin;
    while (end < row.ids.size() && (row.labels[end] != -100) == learned) ++end;
    std::string part = in_one_line(tokenizer.decode(std::span(row.ids).subspan(begin, end - begin), true));
    if (!learned && columns(part) > 2 * kShown) part = std::string(head(part, kShown)) + " ... " + std::string(tail(part, kShown));
    for (std::string_view rest = part; !rest.empty();) {
      const std::string_view one = head(rest, 1);
      rest.remove_prefix(one.size());
      if (marks.size() + columns(one) > kWidth) end_line();
      text += one;
      marks += std::string(columns(one), learned ? '^' : ' ');
    }
    begin = end;
  }
  if (!text.empty()) end_line();
  if (!shown.empty()) shown.pop_back();
  return shown;
}

}  // namespace fettle
