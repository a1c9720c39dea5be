// Operators of expressions: comparisons and arithmetic, with Python's rules for numbers, texts and lists.
#include <algorithm>
#include <cmath>

#include "text/template_run.h"
#include "text/template_text.h"

namespace fettle::jinja {

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

}  // namespace fettle::jinja
