// Attributes, keys and slices of values, looked up as Jinja2's sandbox does.
#include <algorithm>

#include "text/template_run.h"
#include "text/template_text.h"

namespace fettle::jinja {

namespace {

// Python's rules for index and slices: negative ones count from the end.
struct SliceRange {
  int64_t start, stop, step;
};

SliceRange slice_range(Run& run, const Value parts[3], int64_t size) {
  const auto whole = [&](const Value& value, int64_t otherwise) {
    if (value.is_none()) return otherwise;
    run.require_defined(value);
    if (!value.is_whole()) run.wrong_type("a slice needs whole numbers, not", value);
    return value.whole();
  };
  const int64_t step = whole(parts[2], 1);
  if (step == 0) run.fail("a slice's step cannot be zero");
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto bound = [&](const Value& value, int64_t otherwise) {
    if (value.is_none()) return otherwise;
    int64_t at = whole(value, 0);
    if (at < 0) at = at < -size ? low : at + size;
    return std::clamp(at, low, high);
  };
  return {bound(parts[0], step > 0 ? low : high), bound(parts[1], step > 0 ? high : low), step};
}

Value slice_text(Run& run, const Marked& whole, const Value parts[3]) {
  run.charge_bytes(whole.bytes.size());
  const auto [start, stop, step] = slice_range(run, parts, static_cast<int64_t>(n_characters(whole.bytes)));
  if (step == 1) {
    if (stop <= start) return run.text(Marked());
    const size_t begin = character_offset(whole.bytes, static_cast<size_t>(start));
    return run.text_part(whole, begin,
                         begin + character_offset(std::string_view(whole.bytes).substr(begin), static_cast<size_t>(stop - start)));
  }
  std::vector<size_t> at{0};
  run.need(whole.bytes.size() * sizeof(size_t));
  while (at.back() < whole.bytes.size()) {
    at.push_back(at.back() + character_offset(std::string_view(whole.bytes).substr(at.back(), 4), 1));
  }
  Marked result;
  const bool up = step > 0;
  for (int64_t i = start; up ? i < stop : i > stop; i += step) {
    run.charge(1);
    result.append(whole, at[static_cast<size_t>(i)], at[static_cast<size_t>(i) + 1]);
    if (up ? step >= stop - i : step <= stop - i) break;
  }
  return run.text(std::move(result));
}

Value slice_list(Run& run, const List& whole, const Value parts[3]) {
  const auto [start, stop, step] = slice_range(run, parts, static_cast<int64_t>(whole.items.size()));
  std::vector<Value> items;
  const bool up = step > 0;
  for (int64_t i = start; up ? i < stop : i > stop; i += step) {
    items.push_back(whole.items[static_cast<size_t>(i)]);
    if (up ? step >= stop - i : step <= stop - i) break;
  }
  return run.list(std::move(items), whole.kind);
}

bool is_indexed(const Value& value) {
  return value.is_list() &&
         (value.list().kind == List::Kind::list || value.list().kind == List::Kind::tuple || value.list().kind == List::Kind::range);
}

// nullptr: there is no such item.
const Value* list_item(const List& list, int64_t at) {
  const auto size = static_cast<int64_t>(list.items.size());
  if (at < 0) at += size;
  return at >= 0 && at < size ? &list.items[static_cast<size_t>(at)] : nullptr;
}

}  // namespace

Value Run::eval_slice(const Expr& expr) {
  const Value object = eval(*expr.items[0]);
  Value parts[3];
  for (size_t i = 0; i < 3; ++i) parts[i] = expr.items[i + 1] ? eval(*expr.items[i + 1]) : Value(None{});
  line_ = expr.line;
  require_defined(object);
  if (object.is_text()) return slice_text(*this, object.text(), parts);
  if (is_indexed(object)) return slice_list(*this, object.list(), parts);
  wrong_type("this cannot be sliced:", object);
}

Value Run::undefined(const Value& of, const std::string& name) {
  const std::string* known = program_.find(name);
  return Undefined{known, type_name(of), is_forbidden(of, name)};
}

Value Run::attribute(const Value& of, const std::string& name) {
  require_defined(of);
  if (is_method(of, name)) {
    auto method = std::make_shared<Method>();
    method->self = of;
    method->name = name;
    need(sizeof(Method) + name.size());
    method->heap = &heap_;
    heap_.live_bytes += method->n_bytes = sizeof(Method) + name.size();
    return std::shared_ptr<const Method>(std::move(method));
  }
  if (is_forbidden(of, name)) return undefined(of, name);
  if (of.is<Object*>()) {
    const Value* found = of.as<Object*>()->attribute(name);
    return found != nullptr ? *found : undefined(of, name);
  }
  if (of.is_dict()) {
    charge(of.dict().items.size() / 16);
    if (const Value* found = of.dict().find(std::string_view(name)); found != nullptr) return *found;
  }
  return undefined(of, name);
}

Value Run::item(const Value& of, const Value& key) {
  require_defined(of);
  const Value* found = nullptr;
  if (of.is_dict()) {
    charge(of.dict().items.size() / 16);
    found = of.dict().find(key);
  } else if (is_indexed(of) && key.is_whole()) {
    found = list_item(of.list(), key.whole());
  } else if (of.is_text() && key.is_whole()) {
    const std::string& bytes = of.text().bytes;
    charge_bytes(bytes.size());
    const auto size = static_cast<int64_t>(n_characters(bytes));
    const int64_t at = key.whole() < 0 ? key.whole() + size : key.whole();
    if (at < 0 || at >= size) return undefined(of, "");
    const size_t begin = character_offset(bytes, static_cast<size_t>(at));
    return text_part(of.text(), begin, begin + character_offset(std::string_view(bytes).substr(begin, 4), 1));
  }
  if (found != nullptr) return *found;
  return key.is_text() ? attribute(of, key.text().bytes) : undefined(of, "");
}

}  // namespace fettle::jinja
