// Unicode's normal forms and properties come from utf8proc. A run of combining marks is put in order by it in quadratic time, so that runs
// longer than any language's are normalized in parts.
#include "text/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/base.h"
#include "text/bpe.h"
#include "text/unicode.h"

namespace fettle {
namespace {

using Kind = NormalStep::Kind;

constexpr std::string_view kBlank = "\xE2\x96\x81";
constexpr size_t kMostMarks = 256;  // in one run

void append_form(std::string_view text, utf8proc_option_t options, std::string& out) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto n =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &mapped, options);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (n < 0) {
    out += text;
  } else {
    out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(n));
  }
}

// The text in parts that can be normalized apart: ASCII as it is, the rest in runs without invalid bytes.
void to_form(std::string& text, int form) {
  std::string out;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | form);
  size_t begin = 0, n_marks = 0;
  const auto flush = [&](size_t end) {
    if (end > begin) append_form(std::string_view(text).substr(begin, end - begin), options, out);
    begin = end;
    n_marks = 0;
  };
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(std::string_view(text).substr(at));
    if (c.value < 128) {
      // what stands before an ASCII character does not reach beyond it; the character itself may combine with what follows
      const size_t next = at + 1;
      if (next >= text.size() || static_cast<uint8_t>(text[next]) < 128) {
        flush(at);
        out += text[at];
        begin = next;
      } else {
        flush(at);
      }
    } else if (c.value >= kInvalidByte) {
      flush(at);
      out += text[at];
      begin = at + 1;
    } else if ((character_class(c.value) & kMark) == 0) {
      n_marks = 0;
    } else if (++n_marks > kMostMarks) {
      flush(at);
    }
    at += c.n_bytes;
  }
  flush(text.size());
  text = std::move(out);
}

// Each character through `change`, which appends what it becomes. Whether the first became something.
template <class Change>
bool each_character(std::string& text, Change change) {
  std::string out;
  out.reserve(text.size());
  bool kept = true;
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(std::string_view(text).substr(at));
    const std::string_view bytes = std::string_view(text).substr(at, c.n_bytes);
    if (c.value >= kInvalidByte) {
      out += bytes;
    } else {
      change(c.value, bytes, out);
    }
    if (at == 0) kept = !out.empty();
    at += c.n_bytes;
  }
  text = std::move(out);
  return kept;
}

bool strip(std::string& text, bool left, bool right) {
  size_t begin = 0, end = 0;
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(std::string_view(text).substr(at));
    at += c.n_bytes;
    if ((character_class(c.value) & kSpace) != 0) {
      if (!any) begin = at;
    } else {
      any = true;
      end = at;
    }
  }
  text = text.substr(left ? begin : 0, (right ? std::max(end, left ? begin : 0) : text.size()) - (left ? begin : 0));
  return !left || begin == 0;
}

void lowercase(uint32_t c, std::string& out) {
  append_utf8(out, c == 0x130 ? 'i' : to_lower(c));
  if (c == 0x130) append_utf8(out, 0x307);  // the one letter whose lower case is two
}

bool is_cjk(uint32_t c) {
  constexpr uint32_t ranges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                                    {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  for (const auto& [first, last] : ranges) {
    if (c >= first && c <= last) return true;
  }
  return false;
}

void nmt(uint32_t c, std::string_view bytes, std::string& out) {
  if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return;
  const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 ||
                     c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
  out += space ? " " : bytes;
}

void clean(uint32_t c, std::string_view bytes, std::string& out) {
  const bool line = c == '\t' || c == '\n' || c == '\r';
  if (c == 0 || c == 0xFFFD || (!line && is_other(c))) return;
  out += line || (character_class(c) & kSpace) != 0 ? " " : bytes;
}

// Grapheme clusters of up to 5 bytes are looked up whole, by their shortest entry; others character by character.
void map_clusters(const CharsMap& map, std::string& text, size_t most) {
  std::string out;
  const std::string_view all = text;
  for (size_t at = 0; at < all.size() && out.size() <= most;) {
    Character c = decode_character(all.substr(at));
    size_t end = at + c.n_bytes;
    utf8proc_int32_t state = 0;
    while (end < all.size()) {
      const Character next = decode_character(all.substr(end));
      if (c.value >= kInvalidByte || next.value >= kInvalidByte ||
          utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.value), static_cast<utf8proc_int32_t>(next.value), &state)) {
        break;
      }
      c = next;
      end += next.n_bytes;
    }
    const auto whole = end - at < 6 ? map.shortest(all.substr(at, end - at)) : std::nullopt;
    if (whole) out += whole->by;
    while (at < end) {
      const size_t n = whole ? end - at : decode_character(all.substr(at)).n_bytes;
      if (!whole) {
        const std::string_view one = all.substr(at, n);
        const auto found = map.shortest(one);
        out += found ? found->by : one;
      }
      at += n;
    }
  }
  text = std::move(out);
}

void map_prefixes(const CharsMap& map, std::string& text, size_t most) {
  std::string out;
  const std::string_view all = text;
  for (size_t at = 0; at < all.size() && out.size() <= most;) {
    const auto found = map.longest(all.substr(at));
    const size_t n = found ? found->n_bytes : decode_character(all.substr(at)).n_bytes;
    out += found ? found->by : all.substr(at, n);
    at += n;
  }
  text = std::move(out);
}

void spaces(std::string& text, bool prefix, bool merge) {
  std::string out;
  bool in_word = false, prefixed = false;
  for (const char c : text) {
    if (c == ' ') {
      in_word = false;
      if (!merge) out += kBlank;
      continue;
    }
    if (!in_word && ((prefix && !prefixed) || merge)) {
      if (prefix || prefixed || !out.empty()) out += kBlank;
      prefixed = true;
    }
    in_word = true;
    out += c;
  }
  text = std::move(out);
}

}  // namespace

Normalizer::Normalizer(std::vector<NormalStep> steps, const std::string& place) : place_(place) {
  require_few_rules(steps.size(), place);
  for (NormalStep& rule : steps) {
    Step step{std::move(rule), {}, {}};
    if (step.rule.kind == Kind::replace) step.matcher.emplace(step.rule.pattern, place);
    if (step.rule.kind == Kind::charsmap || step.rule.kind == Kind::prefix_map) step.map.emplace(step.rule.text, place);
    steps_.push_back(std::move(step));
  }
}

bool Normalizer::apply(std::string& text) const {
  bool kept = true;
  const size_t most = most_made_of(text.size());
  for (const Step& step : steps_) {
    kept = apply(step, text, most) && kept;
    if (text.size() > most) made_too_long(place_);
  }
  return kept;
}

bool Normalizer::apply(const Step& step, std::string& text, size_t most) const {
  switch (step.rule.kind) {
    case Kind::nfc:
      to_form(text, UTF8PROC_COMPOSE);
      return true;
    case Kind::nfd:
      to_form(text, UTF8PROC_DECOMPOSE);
      return true;
    case Kind::nfkc:
      to_form(text, UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
      return true;
    case Kind::nfkd:
      to_form(text, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
      return true;
    case Kind::lowercase:
      return each_character(text, [](uint32_t c, std::string_view, std::string& out) { lowercase(c, out); });
    case Kind::strip:
      return strip(text, step.rule.left, step.rule.right);
    case Kind::strip_marks:
      return each_character(text, [](uint32_t c, std::string_view bytes, std::string& out) {
        if ((character_class(c) & kMark) == 0) out += bytes;
      });
    case Kind::strip_nonspacing:
      return each_character(text, [](uint32_t c, std::string_view bytes, std::string& out) {
        if (!is_nonspacing_mark(c)) out += bytes;
      });
    case Kind::replace: {
      bool kept = true;
      if (step.rule.text.empty()) {
        step.matcher->each_match(text, [&](size_t from, size_t to) { kept = kept && !(from == 0 && to > 0); });
      }
      step.matcher->replace(text, step.rule.text, most);
      return kept;
    }
    case Kind::prepend:
      if (!text.empty()) text.insert(0, step.rule.text);
      return true;
    case Kind::append:
      if (!text.empty()) text += step.rule.text;
      return true;
    case Kind::nmt:
      return each_character(text, nmt);
    case Kind::clean:
      return each_character(text, clean);
    case Kind::space_cjk:
      return each_character(text, [](uint32_t c, std::string_view bytes, std::string& out) {
        const char* around = is_cjk(c) ? " " : "";
        out.append(around).append(bytes).append(around);
      });
    case Kind::charsmap:
      map_clusters(*step.map, text, most);
      return true;
    case Kind::prefix_map:
      map_prefixes(*step.map, text, most);
      return true;
    case Kind::spaces:
      spaces(text, step.rule.left, step.rule.right);
      return true;
    case Kind::letters:
      return each_character(text, [](uint32_t, std::string_view bytes, std::string& out) {
        for (const char b : bytes) append_utf8(out, letter_of_byte(static_cast<uint8_t>(b)));
      });
  }
  return true;
}

}  // namespace fettle
