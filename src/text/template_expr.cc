// Expressions of a chat template: Python's operators, attributes and keys looked up as Jinja2's sandbox does.
#include <algorithm>
#include <cmath>

#include "text/template_run.h"
#include "text/template_text.h"

namespace fettle::jinja {

Value Run::eval(const Expr& expr) {
  const Deeper deeper(*this);
  charge(1);
  line_ = expr.line;
  switch (expr.op) {
    case Op::constant:
      return expr.value;
    case Op::name:
      return eval_name(expr);
    case Op::list:
    case Op::tuple:
      return eval_items(expr);
    case Op::dict:
      return eval_dict(expr);
    case Op::attribute:
      return attribute(eval(*expr.items[0]), *expr.name);
    case Op::item: {
      const Value object = eval(*expr.items[0]);
      return item(object, eval(*expr.items[1]));
    }
    case Op::slice:
      return eval_slice(expr);
    case Op::call:
      return eval_call(expr, nullptr);
    case Op::filter:
      return eval_filter(expr, nullptr);
    case Op::test:
      return eval_test(expr);
    case Op::negated:
      return !truthy(eval(*expr.items[0]));
    case Op::negative:
    case Op::positive:
      return eval_sign(expr);
    case Op::concatenate:
      return eval_concatenation(expr);
    case Op::compare:
      return eval_compare(expr);
    case Op::both:
    case Op::either: {
      Value left = eval(*expr.items[0]);
      return truthy(left) == (expr.op == Op::both) ? eval(*expr.items[1]) : left;
    }
    case Op::condition:
      if (truthy(eval(*expr.items[0]))) return eval(*expr.items[1]);
      return expr.items[2] ? eval(*expr.items[2]) : Value();
    default: {
      const Value left = eval(*expr.items[0]);
      const Value right = eval(*expr.items[1]);
      line_ = expr.line;
      return arithmetic(expr.op, left, right);
    }
  }
}

Value Run::eval_name(const Expr& expr) {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->outer.get()) {
    charge(scope->names.size() / 8);
    for (const auto& [name, value] : scope->names) {
      if (name == expr.name) return value;
    }
  }
  return Undefined{expr.name, nullptr, false};
}

Value Run::eval_items(const Expr& expr) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const auto& item : expr.items) items.push_back(eval(*item));
  return list(std::move(items), expr.op == Op::list ? List::Kind::list : List::Kind::tuple);
}

Value Run::eval_dict(const Expr& expr) {
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i < expr.items.size(); i += 2) {
    Value key = eval(*expr.items[i]);
    items.emplace_back(std::move(key), eval(*expr.items[i + 1]));
  }
  return dict(std::move(items));
}

Value Run::eval_sign(const Expr& expr) {
  const Value value = eval(*expr.items[0]);
  if (!value.is_number()) wrong_type("bad operand for a sign:", value);
  if (value.is<double>()) return expr.op == Op::negative ? -value.as<double>() : value.as<double>();
  if (expr.op == Op::positive) return value.whole();
  return arithmetic(Op::subtract, int64_t{0}, value);
}

Value Run::eval_concatenation(const Expr& expr) {
  Marked all;
  for (const auto& item : expr.items) {
    const Marked part = str(eval(*item));
    charge_bytes(part.bytes.size());
    need(all.bytes.size() + part.bytes.size());
    all.append(part);
  }
  return text(std::move(all));
}

Args Run::eval_args(const Expr& expr) {
  Args args;
  for (size_t i = 1; i < expr.items.size(); ++i) args.positional.push_back(eval(*expr.items[i]));
  for (const auto& [name, item] : expr.named) args.named.emplace_back(*name, eval(*item));
  if (expr.star) {
    for (Value& value : iterate(eval(*expr.star))) args.positional.push_back(std::move(value));
  }
  if (expr.double_star) {
    const Value more = eval(*expr.double_star);
    if (!more.is_dict()) wrong_type("argument behind ** must be a mapping, not", more);
    for (const auto& [key, value] : more.dict().items) {
      if (!key.is_text()) wrong_type("names of arguments must be texts, not", key);
      const auto same = [&](const auto& pair) { return pair.first == key.text().bytes; };
      if (std::any_of(args.named.begin(), args.named.end(), same)) fail("argument '" + key.text().bytes + "' is given twice");
      charge(args.named.size());
      args.named.emplace_back(key.text().bytes, value);
    }
  }
  line_ = expr.line;
  return args;
}

Value Run::eval_call(const Expr& expr, const Value* caller) {
  const Value callee = eval(*expr.items[0]);
  Args args = eval_args(expr);
  if (caller != nullptr) args.named.emplace_back("caller", *caller);
  return call(callee, args);
}

// given: the text of a block, for a filter that starts a chain.
Value Run::eval_filter(const Expr& expr, const Value* given) {
  const Deeper deeper(*this);
  Value value;
  if (!expr.items[0]) {
    value = *given;
  } else if (given != nullptr && expr.items[0]->op == Op::filter) {
    value = eval_filter(*expr.items[0], given);
  } else {
    value = eval(*expr.items[0]);
  }
  const Args args = eval_args(expr);
  charge(1);
  return expr.filter->apply(*this, value, args);
}

bool Run::eval_test(const Expr& expr) {
  const Value value = eval(*expr.items[0]);
  return expr.test->holds(*this, value, eval_args(expr));
}

Value Run::eval_compare(const Expr& expr) {
  Value left = eval(*expr.items[0]);
  for (size_t i = 0; i < expr.comparisons.size(); ++i) {
    Value right = eval(*expr.items[i + 1]);
    line_ = expr.line;
    if (!holds(expr.comparisons[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

bool Run::holds(Comparison comparison, const Value& a, const Value& b) {
  switch (comparison) {
    case Comparison::equal:
      return same(a, b);
    case Comparison::unequal:
      return !same(a, b);
    case Comparison::less:
      return less(a, b);
    case Comparison::greater:
      return less(b, a);
    case Comparison::less_equal:
      return less(a, b) || same(a, b);
    case Comparison::greater_equal:
      return less(b, a) || same(a, b);
    case Comparison::in:
      return contains(b, a);
    case Comparison::not_in:
      return !contains(b, a);
  }
  return false;
}

namespace {

size_t cost(const Value& value) {
  if (value.is_text()) return value.text().bytes.size();
  if (value.is_list()) return value.list().weight;
  return value.is_dict() ? value.dict().weight : 0;
}

}  // namespace

bool Run::same(const Value& a, const Value& b) {
  // Texts compare fast, lists and dictionaries item by item.
  const size_t n = std::min(cost(a), cost(b));
  charge(n / (a.is_text() ? 256 : 16));
  return equal(a, b);
}

bool Run::less(const Value& a, const Value& b) {
  require_defined(a);
  require_defined(b);
  if (a.is_number() && b.is_number()) return a.is_whole() && b.is_whole() ? a.whole() < b.whole() : a.real() < b.real();
  if (a.is_text() && b.is_text()) {
    charge(std::min(cost(a), cost(b)) / 256);
    return a.text().bytes < b.text().bytes;
  }
  const bool lists = a.is_list() && b.is_list() && a.list().kind == b.list().kind;
  if (!lists || (a.list().kind != List::Kind::list && a.list().kind != List::Kind::tuple)) {
    fail(std::string("'") + type_name(a) + "' and '" + type_name(b) + "' have no order");
  }
  const auto &x = a.list().items, &y = b.list().items;
  for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
    charge(1);
    if (!same(x[i], y[i])) return less(x[i], y[i]);
  }
  return x.size() < y.size();
}

bool Run::contains(const Value& container, const Value& value) {
  if (container.is_text()) {
    if (!value.is_text()) wrong_type("'in' a text needs a text on its left side, not", value);
    charge(container.text().bytes.size() / 64);
    return container.text().bytes.find(value.text().bytes) != std::string::npos;
  }
  if (container.is_dict()) {
    if (value.is_dict() || (value.is_list() && value.list().kind != List::Kind::tuple)) wrong_type("this cannot be a key:", value);
    charge(container.dict().items.size() / 8);
    return container.dict().find(value) != nullptr;
  }
  const std::vector<Value> items = iterate(container);
  return std::any_of(items.begin(), items.end(), [&](const Value& item) {
    charge(1);
    return same(item, value);
  });
}

// ---- arithmetic ----

Value Run::add(const Value& a, const Value& b) {
  if (a.is_text() && b.is_text()) {
    need(a.text().bytes.size() + b.text().bytes.size());
    Marked sum = a.text();
    sum.append(b.text());
    return text(std::move(sum));
  }
  const bool lists = a.is_list() && b.is_list() && a.list().kind == b.list().kind &&
                     (a.list().kind == List::Kind::list || a.list().kind == List::Kind::tuple);
  if (!lists) fail(std::string("cannot add '") + type_name(a) + "' and '" + type_name(b) + "'");
  need((a.list().items.size() + b.list().items.size()) * sizeof(Value));
  std::vector<Value> items = a.list().items;
  items.insert(items.end(), b.list().items.begin(), b.list().items.end());
  return list(std::move(items), a.list().kind);
}

namespace {

Value repeat(Run& run, const Value& what, int64_t times) {
  times = std::max<int64_t>(times, 0);
  const auto n = static_cast<size_t>(times);
  const size_t unit =
      what.is_text() ? what.text().bytes.size() + what.text().quoted.size() * sizeof(TextSpan) : what.list().items.size() * sizeof(Value);
  if (unit > 0 && n > kMaxHeapBytes / unit) run.need(SIZE_MAX);
  run.need(unit * n);
  run.charge_bytes(unit * n);
  if (what.is_text()) {
    Marked all;
    for (size_t i = 0; unit > 0 && i < n; ++i) all.append(what.text());
    return run.text(std::move(all));
  }
  std::vector<Value> items;
  for (size_t i = 0; unit > 0 && i < n; ++i) items.insert(items.end(), what.list().items.begin(), what.list().items.end());
  return run.list(std::move(items), what.list().kind);
}

int64_t floor_divide(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0); }

Value whole_arithmetic(Run& run, Op op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool too_large = false;
  const bool divides = op == Op::divide || op == Op::floor_divide || op == Op::modulo;
  if (divides && b == 0) run.fail("division by zero");
  if (divides && b == -1 && a == INT64_MIN) run.fail("a number is too large");
  switch (op) {
    case Op::add:
      too_large = __builtin_add_overflow(a, b, &result);
      break;
    case Op::subtract:
      too_large = __builtin_sub_overflow(a, b, &result);
      break;
    case Op::multiply:
      too_large = __builtin_mul_overflow(a, b, &result);
      break;
    case Op::divide:
      return static_cast<double>(a) / static_cast<double>(b);
    case Op::floor_divide:
      return floor_divide(a, b);
    case Op::modulo:
      return a - floor_divide(a, b) * b;
    default:
      if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
      result = 1;
      for (int64_t i = 0; i < b && result != 0 && !too_large && (a != 1 || i < 1) && (a != -1 || i < b % 2); ++i) {
        too_large = __builtin_mul_overflow(result, a, &result);
      }
      if (a == -1) result = b % 2 == 0 ? 1 : -1;
  }
  if (too_large) run.fail("a number is too large");
  return result;
}

// The rest has the divisor's sign, and the quotient fits the rest, whatever the rounding of a / b.
double real_rest(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double real_floor_divide(double a, double b) {
  const double quotient = (a - real_rest(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value real_arithmetic(Run& run, Op op, double a, double b) {
  if (b == 0 && (op == Op::divide || op == Op::floor_divide || op == Op::modulo)) run.fail("division by zero");
  switch (op) {
    case Op::add:
      return a + b;
    case Op::subtract:
      return a - b;
    case Op::multiply:
      return a * b;
    case Op::divide:
      return a / b;
    case Op::floor_divide:
      return real_floor_divide(a, b);
    case Op::modulo:
      return real_rest(a, b);
    default:
      return std::pow(a, b);
  }
}

}  // namespace

Value Run::arithmetic(Op op, const Value& a, const Value& b) {
  require_defined(a);
  require_defined(b);
  if (a.is_number() && b.is_number()) {
    return a.is_whole() && b.is_whole() ? whole_arithmetic(*this, op, a.whole(), b.whole())
                                        : real_arithmetic(*this, op, a.real(), b.real());
  }
  if (op == Op::add) return add(a, b);
  if (op == Op::modulo && a.is_text()) return text(percent_format(*this, a.text(), b));
  const auto repeats = [](const Value& v) {
    return v.is_text() || (v.is_list() && (v.list().kind == List::Kind::list || v.list().kind == List::Kind::tuple));
  };
  if (op == Op::multiply && repeats(a) && b.is_whole()) return repeat(*this, a, b.whole());
  if (op == Op::multiply && repeats(b) && a.is_whole()) return repeat(*this, b, a.whole());
  fail(std::string("'") + type_name(a) + "' and '" + type_name(b) + "' cannot be combined like this");
}

// ---- attributes, keys, slices ----

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

// ---- what everything may need ----

void Run::require_defined(const Value& value) {
  if (!value.is_undefined()) return;
  const Undefined& what = value.as<Undefined>();
  const std::string name = what.name == nullptr ? "this" : "'" + *what.name + "'";
  if (what.forbidden) fail("access to " + name + " of a '" + std::string(what.of) + "' is not allowed in chat templates");
  if (what.of == nullptr) fail(name + " is undefined");
  fail(std::string("a '") + what.of + "' has no " + (what.name == nullptr ? "such element" : "element " + name));
}

void Run::wrong_type(const std::string& what, const Value& value) {
  require_defined(value);
  fail(what + " '" + type_name(value) + "'");
}

std::vector<Value> Run::iterate(const Value& value) {
  std::vector<Value> items;
  if (value.is_list()) {
    const List& list = value.list();
    charge(list.items.size());
    need(list.items.size() * sizeof(Value));
    if (list.kind == List::Kind::iterator) {
      items.assign(list.items.begin() + static_cast<ptrdiff_t>(list.taken), list.items.end());
      list.taken = list.items.size();
    } else {
      items = list.items;
    }
  } else if (value.is_dict()) {
    charge(value.dict().items.size());
    for (const auto& [key, held] : value.dict().items) items.push_back(key);
  } else if (value.is_text()) {
    const Marked& marked = value.text();
    charge(marked.bytes.size());
    for (size_t at = 0; at < marked.bytes.size();) {
      const size_t end = at + character_offset(std::string_view(marked.bytes).substr(at, 4), 1);
      items.push_back(text_part(marked, at, end));
      at = end;
    }
  } else if (!value.is_undefined()) {
    wrong_type("cannot loop over", value);
  }
  return items;
}

Value Run::call(const Value& callee, const Args& args) {
  const Deeper deeper(*this);
  charge(1);
  if (callee.is<std::shared_ptr<const Method>>()) {
    const Method& method = *callee.as<std::shared_ptr<const Method>>();
    return call_method(method.self, method.name, args);
  }
  if (callee.is<Object*>() && callee.as<Object*>()->callable()) return callee.as<Object*>()->call(*this, args);
  require_defined(callee);
  fail(std::string("a '") + type_name(callee) + "' cannot be called");
}

// ---- parameters ----

Params::Params(Run& run, std::string what, const Args& args, std::initializer_list<const char*> names, size_t n_required)
    : run_(run), what_(std::move(what)), given_(names.size(), nullptr) {
  if (args.positional.size() > names.size()) run.fail(what_ + " takes at most " + std::to_string(names.size()) + " arguments");
  for (size_t i = 0; i < args.positional.size(); ++i) given_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto* known = std::find(names.begin(), names.end(), std::string_view(name));
    if (known == names.end()) run.fail(what_ + " has no argument '" + name + "'");
    const Value*& slot = given_[static_cast<size_t>(known - names.begin())];
    if (slot != nullptr) run.fail(what_ + " got argument '" + name + "' twice");
    slot = &value;
  }
  for (size_t i = 0; i < n_required; ++i) {
    if (given_[i] == nullptr) run.fail(what_ + " needs argument '" + names.begin()[i] + "'");
  }
}

int64_t Params::whole(size_t i, int64_t otherwise) const {
  if (given_[i] == nullptr || given_[i]->is_none()) return otherwise;
  if (!given_[i]->is_whole()) run_.wrong_type(what_ + ": a whole number is needed, not", *given_[i]);
  return given_[i]->whole();
}

const Marked* Params::text(size_t i) const {
  if (given_[i] == nullptr || given_[i]->is_none()) return nullptr;
  if (!given_[i]->is_text()) run_.wrong_type(what_ + ": a text is needed, not", *given_[i]);
  return &given_[i]->text();
}

}  // namespace fettle::jinja
