// Filters, as Jinja2 has them. Not there, and refused by the parser: pprint, random, safe markup beyond "leave it as it is", striptags,
// urlize, wordwrap, xmlattr, filesizeformat.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "text/template_list_filters.h"
#include "text/template_run.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace fettle::jinja {
namespace {

using Kind = List::Kind;
using Items = std::vector<Value>;

// ---- texts ----

Value trim(Run& run, const Value& self, const Args& args) {
  const Params p(run, "trim", args, {"chars"});
  Args chars;
  if (p[0] != nullptr) chars.positional.push_back(*p[0]);
  return run.call_method(run.text(run.str(self)), "strip", chars);
}

template <std::string (*change)(std::string_view)>
Value changed(Run& run, const Value& self, const Args& args) {
  const Params none(run, "this filter", args, {});
  const Marked text = run.str(self);
  run.charge_bytes(text.bytes.size() * 4);
  run.need(text.bytes.size() * 3);
  return run.text(text.like(change(text.bytes)));
}

// Unlike str.title, words begin behind white space, dashes and opening brackets only.
std::string title_words(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto splits = [](char c) { return c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; };
    size_t end = at;
    while (end < text.size() && !splits(text[end])) {
      const Character c = decode_character(text.substr(end));
      if (is_space(c.value)) break;
      end += c.n_bytes;
    }
    out += capitalized(text.substr(at, end - at));
    const size_t next = end < text.size() ? end + decode_character(text.substr(end)).n_bytes : end;
    out += text.substr(end, next - end);
    at = next;
  }
  return out;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&#34;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += c;
  }
  return out;
}

std::string url_encoded(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF", kSafe = "_.-~/";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x80 && (std::isalnum(byte) != 0 || kSafe.find(c) != std::string_view::npos)) {
      out += c;
    } else {
      ((out += '%') += kHex[byte >> 4]) += kHex[byte & 15];
    }
  }
  return out;
}

Value replace(Run& run, const Value& self, const Args& args) {
  const Params p(run, "replace", args, {"old", "new", "count"}, 2);
  Args given;
  for (size_t i = 0; i < 2; ++i) given.positional.push_back(run.text(run.str(*p[i])));
  if (p[2] != nullptr && !p[2]->is_none()) given.positional.push_back(*p[2]);
  return run.call_method(run.text(run.str(self)), "replace", given);
}

Value indent(Run& run, const Value& self, const Args& args) {
  const Params p(run, "indent", args, {"width", "first", "blank"});
  Marked blanks;
  if (p[0] != nullptr && p[0]->is_text()) {
    blanks = p[0]->text();
  } else {
    const int64_t width = p.whole(0, 4);
    if (width > 1000) run.fail("indent: too wide");
    blanks.append(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '));
  }
  const Marked text = run.str(self);
  Marked out;
  bool first = true;
  for (size_t at = 0; at <= text.bytes.size();) {
    const size_t end = std::min(text.bytes.find('\n', at), text.bytes.size());
    run.charge(1);
    run.charge_bytes(blanks.bytes.size());
    run.need(out.bytes.size() + blanks.bytes.size());
    if (first ? p.flag(1, false) : end > at || p.flag(2, false)) out.append(blanks);
    out.append(text, at, end + 1);
    first = false;
    at = end + 1;
  }
  return run.text(std::move(out));
}

Value truncate(Run& run, const Value& self, const Args& args) {
  const Params p(run, "truncate", args, {"length", "killwords", "end", "leeway"});
  const Marked text = run.str(self), end = p.text(2) == nullptr ? Marked("...") : *p.text(2);
  const auto n_end = static_cast<int64_t>(n_characters(end.bytes));
  const int64_t length = p.whole(0, 255), leeway = p.whole(3, 5);
  if (length < n_end) run.fail("truncate: the length must be at least that of the ending");
  if (leeway < 0) run.fail("truncate: the leeway cannot be negative");
  run.charge_bytes(text.bytes.size());
  const auto n = static_cast<int64_t>(n_characters(text.bytes));
  if (n <= length || n - length <= leeway) return run.text(text);
  size_t cut = character_offset(text.bytes, static_cast<size_t>(length - n_end));
  if (!p.flag(1, false)) {
    const size_t blank = text.bytes.substr(0, cut).rfind(' ');
    if (blank != std::string::npos) cut = blank;
  }
  Marked out = text.slice(0, cut);
  out.append(end);
  return run.text(std::move(out));
}

Value center(Run& run, const Value& self, const Args& args) {
  const Params p(run, "center", args, {"width"});
  Args width;
  width.positional.push_back(p[0] == nullptr ? Value(int64_t{80}) : *p[0]);
  return run.call_method(run.text(run.str(self)), "center", width);
}

Value word_count(Run& run, const Value& self, const Args& args) {
  const Params none(run, "wordcount", args, {});
  const Marked text = run.str(self);
  run.charge_bytes(text.bytes.size() * 4);
  int64_t n = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.bytes.size();) {
    const Character c = decode_character(std::string_view(text.bytes).substr(at));
    const bool word = c.value == '_' || (character_class(c.value) & (kLetter | kNumber)) != 0;
    n += word && !in_word ? 1 : 0;
    in_word = word;
    at += c.n_bytes;
  }
  return n;
}

// ---- numbers ----

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(space_at_start(text));
  text.remove_suffix(space_at_end(text));
  return text;
}

// All of `text` as a number; one sign is allowed.
template <class T, class... Base>
std::optional<T> number_of(std::string_view text, Base... base) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, base...);
  if (text.empty() || text[0] == '-' || error != std::errc() || stop != end) return std::nullopt;
  return negative ? -value : value;
}

Value to_whole(Run& run, const Value& self, const Args& args) {
  const Params p(run, "int", args, {"default", "base"});
  run.require_defined(self);
  Value otherwise = p[0] == nullptr ? Value(int64_t{0}) : *p[0];
  const auto cut = [&](double value) { return std::fabs(value) < 9e18 ? Value(static_cast<int64_t>(value)) : otherwise; };
  if (self.is_whole()) return self.whole();
  if (self.is<double>()) return cut(self.as<double>());
  if (!self.is_text()) return otherwise;
  const int64_t base = p.whole(1, 10);
  if (base < 2 || base > 36) run.fail("int: the base must be between 2 and 36");
  std::string_view text = trimmed(self.text().bytes);
  const std::string prefix = lowered(text.substr(0, 2));
  const bool prefixed = (base == 16 && prefix == "0x") || (base == 8 && prefix == "0o") || (base == 2 && prefix == "0b");
  if (const auto whole = number_of<int64_t>(text.substr(prefixed ? 2 : 0), static_cast<int>(base)); whole) return *whole;
  const auto real = number_of<double>(text);
  return real ? cut(*real) : otherwise;
}

Value to_real(Run& run, const Value& self, const Args& args) {
  const Params p(run, "float", args, {"default"});
  run.require_defined(self);
  Value otherwise = p[0] == nullptr ? Value(0.0) : *p[0];
  if (self.is_number()) return self.real();
  if (!self.is_text()) return otherwise;
  const auto real = number_of<double>(trimmed(self.text().bytes));
  return real ? Value(*real) : otherwise;
}

Value round(Run& run, const Value& self, const Args& args) {
  const Params p(run, "round", args, {"precision", "method"});
  if (!self.is_number()) run.wrong_type("round needs a number, not", self);
  const int64_t precision = p.whole(0, 0);
  const std::string method = p.text(1) == nullptr ? "common" : p.text(1)->bytes;
  if (method != "common" && method != "ceil" && method != "floor") run.fail("round: the method is common, ceil or floor");
  if (precision < -15 || precision > 15) run.fail("round: the precision must be between -15 and 15");
  const double value = self.real(), scale = std::pow(10.0, static_cast<double>(precision));
  if (method != "common") return (method == "ceil" ? std::ceil(value * scale) : std::floor(value * scale)) / scale;
  if (self.is_whole() && precision >= 0) return self.whole();  // Python's round of a whole number stays one
  if (precision <= 0) return std::nearbyint(value * scale) / scale;
  char buffer[400];  // the decimal digits decide, as in Python
  const int n = std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), value);
  double result = value;
  std::from_chars(buffer, buffer + n, result);
  return result;
}

Value absolute(Run& run, const Value& self, const Args& args) {
  const Params none(run, "abs", args, {});
  if (!self.is_number()) run.wrong_type("abs needs a number, not", self);
  if (self.is<double>()) return std::fabs(self.as<double>());
  return self.whole() < 0 ? run.arithmetic(Op::subtract, int64_t{0}, self) : Value(self.whole());
}

// ---- the rest ----

Value otherwise(Run& run, const Value& self, const Args& args) {
  const Params p(run, "default", args, {"default_value", "boolean"});
  if (!self.is_undefined() && !(p.flag(1, false) && !truthy(self))) return self;
  return p[0] == nullptr ? run.text(Marked()) : *p[0];
}

Value json(Run& run, const Value& self, const Args& args) {
  const Params p(run, "tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonLayout layout;
  layout.ascii = p.flag(0, false);
  layout.sort_keys = p.flag(3, false);
  if (p[1] != nullptr && !p[1]->is_none()) {
    layout.lines = true;
    layout.between.pop_back();  // the line end stands for the blank
    if (p[1]->is_text()) {
      layout.indent = p[1]->text().bytes;
    } else {
      layout.indent = std::string(static_cast<size_t>(std::clamp<int64_t>(p.whole(1, 0), 0, 100)), ' ');
    }
  }
  if (p[2] != nullptr && !p[2]->is_none()) {
    const Items parts = run.iterate(*p[2]);
    if (parts.size() != 2 || !parts[0].is_text() || !parts[1].is_text()) run.fail("tojson: separators are two texts");
    layout.between = parts[0].text().bytes;
    layout.after_key = parts[1].text().bytes;
  }
  return run.text(to_json(run, self, layout));
}

Value format(Run& run, const Value& self, const Args& args) {
  if (!args.named.empty() && !args.positional.empty()) run.fail("format takes values by position or by name, not both");
  if (args.named.empty()) return run.text(percent_format(run, run.str(self), run.list(args.positional, Kind::tuple)));
  std::vector<std::pair<Value, Value>> named;
  for (const auto& [name, value] : args.named) named.emplace_back(run.text(name), value);
  return run.text(percent_format(run, run.str(self), run.dict(std::move(named))));
}

Value attr(Run& run, const Value& self, const Args& args) {
  const Params p(run, "attr", args, {"name"}, 1);
  if (p.text(0) == nullptr) run.fail("attr: a name is needed");
  run.require_defined(self);
  // Keys of dictionaries are no attributes.
  const std::string& name = p.text(0)->bytes;
  return self.is_dict() && !is_method(self, name) ? run.undefined(self, name) : run.attribute(self, name);
}

Value as_is(Run& run, const Value& self, const Args& args) {
  const Params none(run, "this filter", args, {});
  return run.text(run.str(self));
}

Value listed(Run& run, const Value& self, const Args& args) {
  const Params none(run, "list", args, {});
  return run.list(run.iterate(self));
}

constexpr Filter kFilters[] = {
    {"abs", absolute},
    {"attr", attr},
    {"batch", batch},
    {"capitalize", changed<capitalized>},
    {"center", center},
    {"count", length},
    {"d", otherwise},
    {"default", otherwise},
    {"dictsort", dictsort},
    {"e", changed<escaped>},
    {"escape", changed<escaped>},
    {"first", first},
    {"float", to_real},
    {"format", format},
    {"groupby", groupby},
    {"indent", indent},
    {"int", to_whole},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", listed},
    {"lower", changed<lowered>},
    {"map", map},
    {"max", [](Run& r, const Value& s, const Args& a) { return extreme(r, s, a, true); }},
    {"min", [](Run& r, const Value& s, const Args& a) { return extreme(r, s, a, false); }},
    {"reject", [](Run& r, const Value& s, const Args& a) { return select(r, s, a, false, false); }},
    {"rejectattr", [](Run& r, const Value& s, const Args& a) { return select(r, s, a, true, false); }},
    {"replace", replace},
    {"reverse", reverse},
    {"round", round},
    {"safe", as_is},
    {"select", [](Run& r, const Value& s, const Args& a) { return select(r, s, a, false, true); }},
    {"selectattr", [](Run& r, const Value& s, const Args& a) { return select(r, s, a, true, true); }},
    {"slice", slices},
    {"sort", sorted},
    {"string", as_is},
    {"sum", sum},
    {"title", changed<title_words>},
    {"tojson", json},
    {"trim", trim},
    {"truncate", truncate},
    {"unique", unique},
    {"upper", changed<uppered>},
    {"urlencode", changed<url_encoded>},
    {"wordcount", word_count},
};

}  // namespace

const Filter* find_filter(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFilters), std::end(kFilters), [&](const Filter& f) { return f.name == name; });
  return found == std::end(kFilters) ? nullptr : found;
}

}  // namespace fettle::jinja
