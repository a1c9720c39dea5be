// Filters, as Jinja2 has them. Not there, and refused by the parser: pprint, random, safe markup beyond "leave it as it is", striptags,
// urlize, wordwrap, xmlattr, filesizeformat.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/template_run.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace fettle::jinja {
namespace {

using Kind = List::Kind;
using Items = std::vector<Value>;

// "a.b.0" of an item, as filters take attributes.
Value attribute_path(Run& run, const Value& item, const Value& path) {
  if (path.is_whole()) return run.item(item, path);
  if (!path.is_text()) run.wrong_type("an attribute must be a text or a number, not", path);
  Value value = item;
  const Marked& marked = path.text();
  for (size_t at = 0;;) {
    run.charge(1);
    const size_t dot = std::min(marked.bytes.find('.', at), marked.bytes.size());
    const std::string part = marked.bytes.substr(at, dot - at);
    int64_t index = 0;
    const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool numeric = !part.empty() && error == std::errc() && stop == part.data() + part.size() && part[0] != '-';
    value = run.item(value, numeric ? Value(index) : run.text(part));
    if (dot == marked.bytes.size()) return value;
    at = dot + 1;
  }
}

Value lower_key(Run& run, const Value& value, bool case_sensitive) {
  return !case_sensitive && value.is_text() ? run.text(lowered(value.text().bytes)) : value;
}

// Keys of items, for sort, unique, min, max and groupby.
Items keys_of(Run& run, const Items& items, const Value* attribute, bool case_sensitive, const Value* otherwise = nullptr) {
  Items keys;
  for (const Value& item : items) {
    Value key = attribute == nullptr || attribute->is_none() ? item : attribute_path(run, item, *attribute);
    if (key.is_undefined() && otherwise != nullptr) key = *otherwise;
    keys.push_back(lower_key(run, key, case_sensitive));
  }
  return keys;
}

// Indices of items in the order of their keys. A merge sort: comparisons may throw, and are counted.
std::vector<size_t> order_of(Run& run, const Items& keys, bool reverse) {
  std::vector<size_t> order(keys.size()), other(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (size_t width = 1; width < order.size(); width *= 2) {
    for (size_t begin = 0; begin < order.size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, order.size()), end = std::min(begin + 2 * width, order.size());
      size_t left = begin, right = middle;
      for (size_t to = begin; to < end; ++to) {
        run.charge(1);
        const bool take_right =
            left == middle ||
            (right < end && (reverse ? run.less(keys[order[left]], keys[order[right]]) : run.less(keys[order[right]], keys[order[left]])));
        other[to] = order[take_right ? right++ : left++];
      }
    }
    order.swap(other);
  }
  return order;
}

Value sorted(Run& run, const Value& self, const Args& args) {
  const Params p(run, "sort", args, {"reverse", "case_sensitive", "attribute"});
  const Items items = run.iterate(self);
  std::vector<Items> key_lists;
  Items keys;
  if (p[2] != nullptr && p[2]->is_text() && p[2]->text().bytes.find(',') != std::string::npos) {  // by several attributes
    std::vector<Items> parts(items.size());
    const std::string paths = p[2]->text().bytes;
    for (size_t at = 0; at <= paths.size();) {
      const size_t comma = std::min(paths.find(',', at), paths.size());
      const Value path = run.text(paths.substr(at, comma - at));
      Items column = keys_of(run, items, &path, p.flag(1, false));
      for (size_t i = 0; i < items.size(); ++i) parts[i].push_back(std::move(column[i]));
      at = comma + 1;
    }
    for (Items& part : parts) keys.push_back(run.list(std::move(part)));
  } else {
    keys = keys_of(run, items, p[2], p.flag(1, false));
  }
  Items result;
  for (const size_t i : order_of(run, keys, p.flag(0, false))) result.push_back(items[i]);
  return run.list(std::move(result));
}

Value dictsort(Run& run, const Value& self, const Args& args) {
  const Params p(run, "dictsort", args, {"case_sensitive", "by", "reverse"});
  if (!self.is_dict()) run.wrong_type("dictsort needs a mapping, not", self);
  const std::string by = p.text(1) == nullptr ? "key" : p.text(1)->bytes;
  if (by != "key" && by != "value") run.fail("dictsort sorts by 'key' or 'value'");
  Items keys, result;
  for (const auto& [key, value] : self.dict().items) keys.push_back(lower_key(run, by == "key" ? key : value, p.flag(0, false)));
  for (const size_t i : order_of(run, keys, p.flag(2, false))) {
    result.push_back(run.list({self.dict().items[i].first, self.dict().items[i].second}, Kind::tuple));
  }
  return run.list(std::move(result));
}

Value unique(Run& run, const Value& self, const Args& args) {
  const Params p(run, "unique", args, {"case_sensitive", "attribute"});
  const Items items = run.iterate(self), keys = keys_of(run, items, p[1], p.flag(0, false));
  Items result;
  std::vector<size_t> kept;
  for (size_t i = 0; i < items.size(); ++i) {
    run.charge(1 + kept.size());
    if (std::any_of(kept.begin(), kept.end(), [&](size_t k) { return run.same(keys[k], keys[i]); })) continue;
    kept.push_back(i);
    result.push_back(items[i]);
  }
  return run.list(std::move(result), Kind::iterator);
}

Value extreme(Run& run, const Value& self, const Args& args, bool greatest) {
  const Params p(run, greatest ? "max" : "min", args, {"case_sensitive", "attribute"});
  const Items items = run.iterate(self), keys = keys_of(run, items, p[1], p.flag(0, false));
  if (items.empty()) return {};
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    run.charge(1);
    if (greatest ? run.less(keys[best], keys[i]) : run.less(keys[i], keys[best])) best = i;
  }
  return items[best];
}

Value groupby(Run& run, const Value& self, const Args& args) {
  const Params p(run, "groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const bool exact = p.flag(2, false);
  const Items items = run.iterate(self);
  const Items keys = keys_of(run, items, p[0], exact, p[1]), plain = keys_of(run, items, p[0], true, p[1]);
  Items groups, group;
  const std::vector<size_t> order = order_of(run, keys, false);
  for (size_t i = 0; i < order.size(); ++i) {
    group.push_back(items[order[i]]);
    if (i + 1 < order.size() && run.same(keys[order[i]], keys[order[i + 1]])) continue;
    const Value grouper = plain[order[i + 1 - group.size()]];
    groups.push_back(run.list({grouper, run.list(std::exchange(group, {}))}, Kind::tuple));
  }
  return run.list(std::move(groups));
}

// ---- map, select and their kin ----

Args rest_of(const Args& args, size_t from) {
  Args rest;
  if (args.positional.size() > from) rest.positional.assign(args.positional.begin() + static_cast<ptrdiff_t>(from), args.positional.end());
  rest.named = args.named;
  return rest;
}

Value map(Run& run, const Value& self, const Args& args) {
  Items result;
  if (args.positional.empty()) {
    const Params p(run, "map", args, {"attribute", "default"}, 1);
    for (const Value& item : run.iterate(self)) {
      Value value = attribute_path(run, item, *p[0]);
      result.push_back(value.is_undefined() && p[1] != nullptr ? *p[1] : std::move(value));
    }
  } else {
    if (!args.positional[0].is_text()) run.wrong_type("map needs the name of a filter, not", args.positional[0]);
    const Filter* filter = find_filter(args.positional[0].text().bytes);
    if (filter == nullptr) run.fail("unknown filter '" + args.positional[0].text().bytes + "'");
    const Args rest = rest_of(args, 1);
    for (const Value& item : run.iterate(self)) {
      run.charge(1);
      result.push_back(filter->apply(run, item, rest));
    }
  }
  return run.list(std::move(result), Kind::iterator);
}

Value select(Run& run, const Value& self, const Args& args, bool by_attribute, bool wanted) {
  const size_t first = by_attribute ? 1 : 0;
  if (by_attribute && args.positional.empty()) run.fail("the name of an attribute is needed");
  const Test* test = nullptr;
  if (args.positional.size() > first) {
    if (!args.positional[first].is_text()) run.wrong_type("the name of a test is needed, not", args.positional[first]);
    test = find_test(args.positional[first].text().bytes);
    if (test == nullptr) run.fail("unknown test '" + args.positional[first].text().bytes + "'");
  }
  const Args rest = rest_of(args, first + 1);
  Items result;
  for (const Value& item : run.iterate(self)) {
    run.charge(1);
    const Value value = by_attribute ? attribute_path(run, item, args.positional[0]) : item;
    if ((test != nullptr ? test->holds(run, value, rest) : truthy(value)) == wanted) result.push_back(item);
  }
  return run.list(std::move(result), Kind::iterator);
}

// ---- lists ----

Value join(Run& run, const Value& self, const Args& args) {
  const Params p(run, "join", args, {"d", "attribute"});
  const Marked separator = p[0] == nullptr ? Marked() : run.str(*p[0]);
  Marked out;
  bool first = true;
  for (const Value& item : run.iterate(self)) {
    if (!std::exchange(first, false)) out.append(separator);
    const Marked part = run.str(p[1] == nullptr || p[1]->is_none() ? item : attribute_path(run, item, *p[1]));
    run.charge_bytes(part.bytes.size() + separator.bytes.size());
    run.need(out.bytes.size() + part.bytes.size());
    out.append(part);
  }
  return run.text(std::move(out));
}

Value length(Run& run, const Value& self, const Args& args) {
  const Params none(run, "length", args, {});
  if (self.is_text()) {
    run.charge_bytes(self.text().bytes.size());
    return static_cast<int64_t>(n_characters(self.text().bytes));
  }
  if (self.is_list() && self.list().kind != Kind::iterator) return static_cast<int64_t>(self.list().items.size());
  if (self.is_dict()) return static_cast<int64_t>(self.dict().items.size());
  if (self.is_undefined() && !self.as<Undefined>().forbidden) return int64_t{0};
  run.wrong_type("this has no length:", self);
}

Value first(Run& run, const Value& self, const Args& args) {
  const Params none(run, "first", args, {});
  if (self.is_list() && self.list().kind == Kind::iterator) {
    const List& list = self.list();
    return list.taken < list.items.size() ? list.items[list.taken++] : Value();
  }
  const Items items = run.iterate(self);
  return items.empty() ? Value() : items.front();
}

Value last(Run& run, const Value& self, const Args& args) {
  const Params none(run, "last", args, {});
  if (self.is_list() && self.list().kind == Kind::iterator) run.wrong_type("this cannot be read from its end:", self);
  const Items items = run.iterate(self);
  return items.empty() ? Value() : items.back();
}

Value reverse(Run& run, const Value& self, const Args& args) {
  const Params none(run, "reverse", args, {});
  Items items = run.iterate(self);
  std::reverse(items.begin(), items.end());
  if (!self.is_text()) return run.list(std::move(items), Kind::iterator);
  Marked out;
  for (const Value& item : items) out.append(item.text());
  return run.text(std::move(out));
}

Value batch(Run& run, const Value& self, const Args& args) {
  const Params p(run, "batch", args, {"linecount", "fill_with"}, 1);
  const int64_t n = p.whole(0, 1);
  if (n < 1 || n > kMaxRange) run.fail("batch: the size must be between 1 and " + std::to_string(kMaxRange));
  Items rows, row;
  for (Value& item : run.iterate(self)) {
    row.push_back(std::move(item));
    if (static_cast<int64_t>(row.size()) == n) rows.push_back(run.list(std::exchange(row, {})));
  }
  if (!row.empty()) {
    if (p[1] != nullptr && !p[1]->is_none()) row.resize(static_cast<size_t>(n), *p[1]);
    rows.push_back(run.list(std::move(row)));
  }
  return run.list(std::move(rows), Kind::iterator);
}

Value slices(Run& run, const Value& self, const Args& args) {
  const Params p(run, "slice", args, {"slices", "fill_with"}, 1);
  const int64_t n = p.whole(0, 1);
  if (n < 1 || n > kMaxRange) run.fail("slice: the number of slices must be between 1 and " + std::to_string(kMaxRange));
  const Items items = run.iterate(self);
  const auto per_slice = items.size() / static_cast<size_t>(n), longer = items.size() % static_cast<size_t>(n);
  Items rows;
  size_t at = 0;
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
    const size_t size = per_slice + (i < longer ? 1 : 0);
    Items row(items.begin() + static_cast<ptrdiff_t>(at), items.begin() + static_cast<ptrdiff_t>(at + size));
    if (p[1] != nullptr && !p[1]->is_none() && i >= longer && longer > 0) row.push_back(*p[1]);
    rows.push_back(run.list(std::move(row)));
    at += size;
  }
  return run.list(std::move(rows), Kind::iterator);
}

Value sum(Run& run, const Value& self, const Args& args) {
  const Params p(run, "sum", args, {"attribute", "start"});
  Value total = p[1] == nullptr ? Value(int64_t{0}) : *p[1];
  for (const Value& item : run.iterate(self)) {
    total = run.arithmetic(Op::add, total, p[0] == nullptr || p[0]->is_none() ? item : attribute_path(run, item, *p[0]));
  }
  return total;
}

Value items(Run& run, const Value& self, const Args& args) {
  const Params none(run, "items", args, {});
  if (self.is_undefined() && !self.as<Undefined>().forbidden) return run.list({}, Kind::iterator);
  if (!self.is_dict()) run.wrong_type("items needs a mapping, not", self);
  Items pairs;
  for (const auto& [key, value] : self.dict().items) pairs.push_back(run.list({key, value}, Kind::tuple));
  return run.list(std::move(pairs), Kind::iterator);
}

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

Value to_whole(Run& run, const Value& self, const Args& args) {
  const Params p(run, "int", args, {"default", "base"});
  run.require_defined(self.is_undefined() && !self.as<Undefined>().forbidden ? Value(None{}) : self);
  const Value otherwise = p[0] == nullptr ? Value(int64_t{0}) : *p[0];
  if (self.is_whole()) return self.whole();
  if (self.is<double>()) {
    if (!(std::fabs(self.as<double>()) < 9e18)) return otherwise;
    return static_cast<int64_t>(self.as<double>());
  }
  if (!self.is_text()) return otherwise;
  std::string text = self.text().bytes;
  text = text.substr(space_at_start(text));
  text.resize(text.size() - space_at_end(text));
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.erase(0, 1);
  int64_t base = p.whole(1, 10);
  const std::string prefix = lowered(text.substr(0, 2));
  if ((base == 16 && prefix == "0x") || (base == 8 && prefix == "0o") || (base == 2 && prefix == "0b")) text.erase(0, 2);
  if (base < 2 || base > 36) run.fail("int: the base must be between 2 and 36");
  int64_t value = 0;
  const char* end = text.data() + text.size();
  if (const auto [stop, error] = std::from_chars(text.data(), end, value, static_cast<int>(base)); error == std::errc() && stop == end) {
    return text.starts_with('-') ? otherwise : Value(negative ? -value : value);
  }
  double real = 0;
  const auto [stop, error] = std::from_chars(text.data(), end, real);
  if (text.empty() || error != std::errc() || stop != end || !(std::fabs(real) < 9e18)) return otherwise;
  return static_cast<int64_t>(negative ? -real : real);
}

Value to_real(Run& run, const Value& self, const Args& args) {
  const Params p(run, "float", args, {"default"});
  run.require_defined(self.is_undefined() && !self.as<Undefined>().forbidden ? Value(None{}) : self);
  const Value otherwise = p[0] == nullptr ? Value(0.0) : *p[0];
  if (self.is_number()) return self.real();
  if (!self.is_text()) return otherwise;
  std::string text = self.text().bytes;
  text = text.substr(space_at_start(text));
  text.resize(text.size() - space_at_end(text));
  if (text.starts_with('+')) text.erase(0, 1);
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return text.empty() || error != std::errc() || stop != text.data() + text.size() ? otherwise : Value(value);
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
  if (self.is_undefined() && self.as<Undefined>().forbidden) run.require_defined(self);
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
    layout.between = ",";
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
