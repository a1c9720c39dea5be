// Expressions of a chat template, what may be called and looped over, and the arguments of calls. Operators are in template_operators.cc,
// attributes and keys in template_items.cc.
#include <algorithm>

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
