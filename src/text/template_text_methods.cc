// Methods of texts, as Python has them; encode, maketrans, translate and expandtabs are missing.
#include <algorithm>

#include "text/template_methods.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace fettle::jinja {
namespace {

using Kind = List::Kind;

// The part of a text that is stripped away: white space, or any of `characters`.
size_t strip_start(std::string_view text, const Marked* characters) {
  if (characters == nullptr) return space_at_start(text);
  size_t at = 0;
  while (at < text.size()) {
    const std::string_view c = text.substr(at, decode_character(text.substr(at)).n_bytes);
    if (characters->bytes.find(c) == std::string::npos) break;
    at += c.size();
  }
  return at;
}

size_t strip_end(std::string_view text, const Marked* characters) {
  if (characters == nullptr) return text.size() - space_at_end(text);
  size_t end = text.size();
  while (end > 0) {
    const size_t start = character_before(text, end);
    if (characters->bytes.find(text.substr(start, end - start)) == std::string::npos) break;
    end = start;
  }
  return end;
}

Value strip(const Params& p, const Marked& self, bool start, bool end) {
  const Marked* characters = p.text(0);
  p.run().charge_bytes(self.bytes.size() * (characters == nullptr ? 1 : 1 + characters->bytes.size() / 8));
  const size_t to = end ? strip_end(self.bytes, characters) : self.bytes.size();
  const size_t from = start ? strip_start(std::string_view(self.bytes).substr(0, to), characters) : 0;
  return p.run().text_part(self, from, to);
}

// Words between white space. After `most` splits the rest stays whole, with the white space at its far end.
Value split_space(Run& run, const Marked& self, int64_t most, bool from_right) {
  const std::string_view text = self.bytes;
  std::vector<Value> parts;
  size_t begin = space_at_start(text), end = text.size() - space_at_end(text);
  while (begin < end) {
    const bool last = most >= 0 && static_cast<int64_t>(parts.size()) >= most;
    if (from_right) {
      size_t start = last ? 0 : end;
      while (start > begin && !is_space(decode_character(text.substr(character_before(text, start))).value)) {
        start = character_before(text, start);
      }
      parts.push_back(run.text_part(self, start, end));
      end = start - space_at_end(text.substr(0, start));
    } else {
      size_t stop = last ? text.size() : begin;
      while (stop < end && !is_space(decode_character(text.substr(stop)).value)) stop += decode_character(text.substr(stop)).n_bytes;
      parts.push_back(run.text_part(self, begin, stop));
      begin = stop + space_at_start(text.substr(stop));
    }
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return run.list(std::move(parts));
}

Value split(const Params& p, const Marked& self, bool from_right) {
  Run& run = p.run();
  const Marked* separator = p.text(0);
  const int64_t most = p.whole(1, -1);
  run.charge_bytes(self.bytes.size());
  if (separator == nullptr) return split_space(run, self, most, from_right);
  const std::string& sep = separator->bytes;
  if (sep.empty()) run.fail(p.what() + ": empty separator");
  std::vector<Value> parts;
  size_t begin = 0, end = self.bytes.size();
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    if (from_right) {
      const size_t at = end < sep.size() ? std::string::npos : self.bytes.rfind(sep, end - sep.size());
      if (at == std::string::npos) break;
      parts.push_back(run.text_part(self, at + sep.size(), end));
      end = at;
    } else {
      const size_t at = self.bytes.find(sep, begin);
      if (at == std::string::npos) break;
      parts.push_back(run.text_part(self, begin, at));
      begin = at + sep.size();
    }
  }
  parts.push_back(run.text_part(self, begin, end));
  if (from_right) std::reverse(parts.begin(), parts.end());
  return run.list(std::move(parts));
}

Value partition(const Params& p, const Marked& self, bool from_right) {
  Run& run = p.run();
  if (p.text(0) == nullptr || p.text(0)->bytes.empty()) run.fail(p.what() + ": a separator is needed");
  const Marked& sep = *p.text(0);
  run.charge_bytes(self.bytes.size());
  const size_t at = from_right ? self.bytes.rfind(sep.bytes) : self.bytes.find(sep.bytes);
  const Value nothing = run.text(Marked());
  if (at == std::string::npos) {
    const Value all = run.text(self);
    return run.list(from_right ? std::vector<Value>{nothing, nothing, all} : std::vector<Value>{all, nothing, nothing}, Kind::tuple);
  }
  return run.list({run.text_part(self, 0, at), run.text(sep), run.text_part(self, at + sep.bytes.size(), SIZE_MAX)}, Kind::tuple);
}

Value splitlines(const Params& p, const Marked& self) {
  const bool keep = p.flag(0, false);
  const std::string_view text = self.bytes;
  p.run().charge_bytes(text.size());
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(text.substr(at));
    const uint32_t v = c.value;
    const bool ends = (v >= 0x0A && v <= 0x0D) || (v >= 0x1C && v <= 0x1E) || v == 0x85 || v == 0x2028 || v == 0x2029;
    const size_t next = at + c.n_bytes + (v == '\r' && text.substr(at + 1).starts_with('\n') ? 1 : 0);
    if (ends) {
      lines.push_back(p.run().text_part(self, begin, keep ? next : at));
      begin = next;
    }
    at = ends ? next : at + c.n_bytes;
  }
  if (begin < text.size()) lines.push_back(p.run().text_part(self, begin, text.size()));
  return p.run().list(std::move(lines));
}

Value replace(const Params& p, const Marked& self) {
  Run& run = p.run();
  if (p.text(0) == nullptr || p.text(1) == nullptr) run.fail(p.what() + ": two texts are needed");
  const Marked &from = *p.text(0), &to = *p.text(1);
  int64_t left = p.whole(2, -1);
  Marked out;
  size_t at = 0;
  const std::string_view text = self.bytes;
  run.charge_bytes(text.size());
  while (left != 0) {
    const size_t found = from.bytes.empty() ? at : text.find(from.bytes, at);
    if (found == std::string_view::npos || (from.bytes.empty() && at > text.size())) break;
    run.charge(1);
    run.charge_bytes(to.bytes.size());
    run.need(out.bytes.size() + to.bytes.size());
    out.append(self, at, found);
    out.append(to);
    at = found + from.bytes.size();
    if (from.bytes.empty()) {
      if (at >= text.size()) {
        at = text.size();
        break;
      }
      const size_t next = at + decode_character(text.substr(at)).n_bytes;
      out.append(self, at, next);
      at = next;
    }
    --left;
  }
  out.append(self, at);
  return run.text(std::move(out));
}

// The bytes that "text[start:end]" means, for find, count, startswith and endswith.
std::pair<size_t, size_t> window(const Params& p, std::string_view text, size_t first) {
  if (p[first] == nullptr && p[first + 1] == nullptr) return {0, text.size()};
  const auto n = static_cast<int64_t>(n_characters(text));
  const auto place = [&](int64_t at) { return std::clamp(at < 0 ? at + n : at, int64_t{0}, n); };
  const size_t begin = character_offset(text, static_cast<size_t>(place(p.whole(first, 0))));
  const size_t end = character_offset(text, static_cast<size_t>(place(p.whole(first + 1, n))));
  return {begin, std::max(begin, end)};
}

Value starts_or_ends(const Params& p, const Marked& self, bool start) {
  const auto [begin, end] = window(p, self.bytes, 1);
  const std::string_view text = std::string_view(self.bytes).substr(begin, end - begin);
  const auto fits = [&](const Value& affix) {
    if (!affix.is_text()) p.run().wrong_type(p.what() + " needs a text or a tuple of texts, not", affix);
    return start ? text.starts_with(affix.text().bytes) : text.ends_with(affix.text().bytes);
  };
  if (!p[0]->is_list()) return fits(*p[0]);
  const auto& affixes = p[0]->list().items;
  p.run().charge(affixes.size());
  return std::any_of(affixes.begin(), affixes.end(), fits);
}

Value find(const Params& p, const Marked& self, bool from_right, bool must) {
  if (p.text(0) == nullptr) p.run().fail(p.what() + ": a text is needed");
  p.run().charge_bytes(self.bytes.size());
  const auto [begin, end] = window(p, self.bytes, 1);
  const std::string_view text = std::string_view(self.bytes).substr(begin, end - begin);
  const size_t at = from_right ? text.rfind(p.text(0)->bytes) : text.find(p.text(0)->bytes);
  if (at == std::string_view::npos && must) p.run().fail(p.what() + ": the text is not found");
  if (at == std::string_view::npos) return int64_t{-1};
  return static_cast<int64_t>(n_characters(std::string_view(self.bytes).substr(0, begin + at)));
}

Value count(const Params& p, const Marked& self) {
  if (p.text(0) == nullptr) p.run().fail(p.what() + ": a text is needed");
  p.run().charge_bytes(self.bytes.size());
  const auto [begin, end] = window(p, self.bytes, 1);
  const std::string_view text = std::string_view(self.bytes).substr(begin, end - begin), what = p.text(0)->bytes;
  if (what.empty()) return static_cast<int64_t>(n_characters(text)) + 1;
  int64_t n = 0;
  for (size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

Value join(const Params& p, const Marked& self) {
  Marked out;
  bool first = true;
  for (const Value& item : p.run().iterate(*p[0])) {
    if (!item.is_text()) p.run().wrong_type("join: every item must be a text, not", item);
    if (!std::exchange(first, false)) out.append(self);
    out.append(item.text());
    p.run().charge_bytes(item.text().bytes.size() + self.bytes.size());
    p.run().need(out.bytes.size());
  }
  return p.run().text(std::move(out));
}

// ljust, rjust, center, zfill
Value justify(const Params& p, const Marked& self, char how) {
  const int64_t width = p.whole(0, 0);
  const Marked blank(how == '0' ? "0" : " ");
  const Marked& fill = how != '0' && p.text(1) != nullptr ? *p.text(1) : blank;
  if (n_characters(fill.bytes) != 1) p.run().fail(p.what() + ": the fill must be one character");
  const auto n = static_cast<int64_t>(n_characters(self.bytes));
  const size_t missing = width > n ? static_cast<size_t>(width - n) : 0;
  p.run().need(std::min(missing, kMaxHeapBytes) * (fill.bytes.size() + sizeof(TextSpan)));
  p.run().charge_bytes(missing * fill.bytes.size());
  // Python's center puts the odd blank to the left when the width is odd.
  const size_t left = how == '<' ? 0 : how == '^' ? missing / 2 + (missing & static_cast<size_t>(width) & 1) : missing;
  Marked out;
  const bool sign = how == '0' && (self.bytes.starts_with('-') || self.bytes.starts_with('+'));
  if (sign) out.append(self, 0, 1);
  for (size_t i = 0; i < left; ++i) out.append(fill);
  out.append(self, sign ? 1 : 0);
  for (size_t i = left; i < missing; ++i) out.append(fill);
  return p.run().text(std::move(out));
}

// isdigit, isalpha, ...: every character fits and there is one.
template <class F>
bool every(std::string_view text, F fits) {
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(text.substr(at));
    if (!fits(c.value)) return false;
    at += c.n_bytes;
  }
  return !text.empty();
}

bool is_cased(std::string_view text, uint8_t wanted, uint8_t unwanted) {
  bool found = false;
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(text.substr(at));
    if ((character_class(c.value) & unwanted) != 0) return false;
    found |= (character_class(c.value) & wanted) != 0;
    at += c.n_bytes;
  }
  return found;
}

std::string swapped(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t n = decode_character(text.substr(at)).n_bytes;
    const std::string_view c = text.substr(at, n);
    out += (character_class(decode_character(c).value) & kUpper) != 0 ? lowered(c) : uppered(c);
    at += n;
  }
  return out;
}

Value affix(const Params& p, const Marked& self, bool start) {
  if (p.text(0) == nullptr) p.run().fail(p.what() + ": a text is needed");
  const std::string& what = p.text(0)->bytes;
  if (start) return p.run().text_part(self, self.bytes.starts_with(what) ? what.size() : 0, SIZE_MAX);
  return p.run().text_part(self, 0, self.bytes.size() - (self.bytes.ends_with(what) ? what.size() : 0));
}

template <std::string (*change)(std::string_view)>
Value changed(Run& run, const Value& self, const Args& args) {
  const Params none(run, "this method", args, {});
  run.charge_bytes(self.text().bytes.size() * 4);
  run.need(self.text().bytes.size() * 3);
  return run.text(self.text().like(change(self.text().bytes)));
}

template <bool (*holds)(std::string_view)>
Value check(Run& run, const Value& self, const Args& args) {
  const Params none(run, "this method", args, {});
  run.charge_bytes(self.text().bytes.size() * 4);
  return holds(self.text().bytes);
}

bool is_number_character(uint32_t c) { return (character_class(c) & kNumber) != 0; }
bool is_letter(uint32_t c) { return (character_class(c) & kLetter) != 0; }

constexpr NamedMethod kTextMethods[] = {
    {"strip", [](Run& r, const Value& s, const Args& a) { return strip(Params(r, "strip", a, {"chars"}), s.text(), true, true); }},
    {"lstrip", [](Run& r, const Value& s, const Args& a) { return strip(Params(r, "lstrip", a, {"chars"}), s.text(), true, false); }},
    {"rstrip", [](Run& r, const Value& s, const Args& a) { return strip(Params(r, "rstrip", a, {"chars"}), s.text(), false, true); }},
    {"split",
     [](Run& r, const Value& s, const Args& a) {
       return split(Params(r, "split", a, {"sep", "maxsplit"}), s.text(), false);
     }},
    {"rsplit",
     [](Run& r, const Value& s, const Args& a) {
       return split(Params(r, "rsplit", a, {"sep", "maxsplit"}), s.text(), true);
     }},
    {"partition", [](Run& r, const Value& s, const Args& a) { return partition(Params(r, "partition", a, {"sep"}, 1), s.text(), false); }},
    {"rpartition", [](Run& r, const Value& s, const Args& a) { return partition(Params(r, "rpartition", a, {"sep"}, 1), s.text(), true); }},
    {"splitlines", [](Run& r, const Value& s, const Args& a) { return splitlines(Params(r, "splitlines", a, {"keepends"}), s.text()); }},
    {"replace",
     [](Run& r, const Value& s, const Args& a) {
       return replace(Params(r, "replace", a, {"old", "new", "count"}, 2), s.text());
     }},
    {"startswith",
     [](Run& r, const Value& s, const Args& a) {
       return starts_or_ends(Params(r, "startswith", a, {"prefix", "start", "end"}, 1), s.text(), true);
     }},
    {"endswith",
     [](Run& r, const Value& s, const Args& a) {
       return starts_or_ends(Params(r, "endswith", a, {"suffix", "start", "end"}, 1), s.text(), false);
     }},
    {"find",
     [](Run& r, const Value& s, const Args& a) {
       return find(Params(r, "find", a, {"sub", "start", "end"}, 1), s.text(), false, false);
     }},
    {"rfind",
     [](Run& r, const Value& s, const Args& a) {
       return find(Params(r, "rfind", a, {"sub", "start", "end"}, 1), s.text(), true, false);
     }},
    {"index",
     [](Run& r, const Value& s, const Args& a) {
       return find(Params(r, "index", a, {"sub", "start", "end"}, 1), s.text(), false, true);
     }},
    {"rindex",
     [](Run& r, const Value& s, const Args& a) {
       return find(Params(r, "rindex", a, {"sub", "start", "end"}, 1), s.text(), true, true);
     }},
    {"count",
     [](Run& r, const Value& s, const Args& a) {
       return count(Params(r, "count", a, {"sub", "start", "end"}, 1), s.text());
     }},
    {"join", [](Run& r, const Value& s, const Args& a) { return join(Params(r, "join", a, {"iterable"}, 1), s.text()); }},
    {"format", [](Run& r, const Value& s, const Args& a) { return r.text(brace_format(r, s.text(), a)); }},
    {"ljust",
     [](Run& r, const Value& s, const Args& a) {
       return justify(Params(r, "ljust", a, {"width", "fillchar"}, 1), s.text(), '<');
     }},
    {"rjust",
     [](Run& r, const Value& s, const Args& a) {
       return justify(Params(r, "rjust", a, {"width", "fillchar"}, 1), s.text(), '>');
     }},
    {"center",
     [](Run& r, const Value& s, const Args& a) {
       return justify(Params(r, "center", a, {"width", "fillchar"}, 1), s.text(), '^');
     }},
    {"zfill", [](Run& r, const Value& s, const Args& a) { return justify(Params(r, "zfill", a, {"width"}, 1), s.text(), '0'); }},
    {"removeprefix",
     [](Run& r, const Value& s, const Args& a) { return affix(Params(r, "removeprefix", a, {"prefix"}, 1), s.text(), true); }},
    {"removesuffix",
     [](Run& r, const Value& s, const Args& a) { return affix(Params(r, "removesuffix", a, {"suffix"}, 1), s.text(), false); }},
    {"lower", changed<lowered>},
    {"casefold", changed<lowered>},
    {"upper", changed<uppered>},
    {"capitalize", changed<capitalized>},
    {"title", changed<titled>},
    {"swapcase", changed<swapped>},
    {"isdigit", check<[](std::string_view t) { return every(t, is_number_character); }>},
    {"isdecimal", check<[](std::string_view t) { return every(t, is_number_character); }>},
    {"isnumeric", check<[](std::string_view t) { return every(t, is_number_character); }>},
    {"isalpha", check<[](std::string_view t) { return every(t, is_letter); }>},
    {"isalnum", check<[](std::string_view t) { return every(t, [](uint32_t c) { return is_letter(c) || is_number_character(c); }); }>},
    {"isspace", check<[](std::string_view t) { return every(t, is_space); }>},
    {"isprintable", check<[](std::string_view t) { return t.empty() || every(t, is_printable); }>},
    {"isascii", check<[](std::string_view t) { return t.empty() || every(t, [](uint32_t c) { return c < 0x80; }); }>},
    {"islower", check<[](std::string_view t) { return is_cased(t, kLower, kUpper); }>},
    {"isupper", check<[](std::string_view t) { return is_cased(t, kUpper, kLower); }>},
};

}  // namespace

std::span<const NamedMethod> text_methods() { return kTextMethods; }

}  // namespace fettle::jinja
