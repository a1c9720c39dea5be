// Filters over lists and dictionaries: sorting, grouping, mapping, selecting.
#include "text/template_list_filters.h"

#include <algorithm>
#include <charconv>

#include "text/template_text.h"

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

Args rest_of(const Args& args, size_t from) {
  Args rest;
  if (args.positional.size() > from) rest.positional.assign(args.positional.begin() + static_cast<ptrdiff_t>(from), args.positional.end());
  rest.named = args.named;
  return rest;
}

}  // namespace

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
    const Value& grouper = plain[order[i + 1 - group.size()]];
    groups.push_back(run.list({grouper, run.list(std::exchange(group, {}))}, Kind::tuple));
  }
  return run.list(std::move(groups));
}

// ---- map, select and their kin ----

Value map(Run& run, const Value& self, const Args& args) {
  Items result;
  if (args.positional.empty()) {
    const Params p(run, "map", args, {"attribute", "default"}, 1);
    for (const Value& item : run.iterate(self)) {
      Value value = attribute_path(run, item, *p[0]);
      result.push_back(value.is_undefined() && p[1] != nullptr ? *p[1] : value);
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
  if (self.is_undefined()) return int64_t{0};
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
    if (p[1] != nullptr && !p[1]->is_none() && i >= longer) row.push_back(*p[1]);
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
  if (self.is_undefined()) return run.list({}, Kind::iterator);
  if (!self.is_dict()) run.wrong_type("items needs a mapping, not", self);
  Items pairs;
  for (const auto& [key, value] : self.dict().items) pairs.push_back(run.list({key, value}, Kind::tuple));
  return run.list(std::move(pairs), Kind::iterator);
}

}  // namespace fettle::jinja
