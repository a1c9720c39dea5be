// Statements of a chat template, loops and macros. Names are looked up when they are used; Jinja2 binds them when it compiles, so that a
// name which an inner block reads and an outer one sets further down is undefined there, and has its old value here.
#include <algorithm>

#include "text/template_lexer.h"
#include "text/template_run.h"

namespace fettle::jinja {
namespace {

struct MacroObject : Object {
  MacroObject(const Macro& what, std::shared_ptr<Scope> where) : macro(what), scope(std::move(where)) {}
  const char* type() const override { return "Macro"; }
  bool callable() const override { return true; }
  Value call(Run& run, const Args& args) override { return run.run_macro(macro, scope, args); }
  const Macro& macro;
  std::shared_ptr<Scope> scope;
};

// "loop"
struct LoopObject : Object {
  LoopObject(const Stmt& what, std::vector<Value> values, std::shared_ptr<Scope> where, int level)
      : stmt(what), items(std::move(values)), scope(std::move(where)), depth(level) {}
  const char* type() const override { return "LoopContext"; }
  const Value* attribute(std::string_view name) const override;
  bool callable() const override { return stmt.recursive; }
  Value call(Run& run, const Args& args) override {
    const Params params(run, "loop", args, {"iterable"}, 1);
    return run.run_loop_again(stmt, scope, *params[0], depth + 1);
  }
  bool has_method(std::string_view name) const override { return name == "cycle" || name == "changed"; }
  Value call_method(Run& run, const std::string& name, const Args& args) override;

  const Stmt& stmt;
  std::vector<Value> items;
  std::shared_ptr<Scope> scope;
  int depth;
  int64_t index = 0;  // from 0
  std::vector<Value> last;
  bool has_last = false;
  mutable Value slot;
};

const Value* LoopObject::attribute(std::string_view name) const {
  const auto n = static_cast<int64_t>(items.size());
  if (name == "index")
    slot = index + 1;
  else if (name == "index0")
    slot = index;
  else if (name == "revindex")
    slot = n - index;
  else if (name == "revindex0")
    slot = n - index - 1;
  else if (name == "first")
    slot = index == 0;
  else if (name == "last")
    slot = index + 1 == n;
  else if (name == "length")
    slot = n;
  else if (name == "depth")
    slot = static_cast<int64_t>(depth + 1);
  else if (name == "depth0")
    slot = static_cast<int64_t>(depth);
  else if (name == "previtem")
    slot = index > 0 && index <= n ? items[static_cast<size_t>(index - 1)] : Value();
  else if (name == "nextitem")
    slot = index + 1 < n ? items[static_cast<size_t>(index + 1)] : Value();
  else
    return nullptr;
  return &slot;
}

Value LoopObject::call_method(Run& run, const std::string& name, const Args& args) {
  if (name == "cycle") {
    if (args.positional.empty()) run.fail("no items for cycling given");
    return args.positional[static_cast<size_t>(index) % args.positional.size()];
  }
  const bool changed = !has_last || !std::equal(last.begin(), last.end(), args.positional.begin(), args.positional.end(),
                                                [&](const Value& a, const Value& b) { return run.same(a, b); });
  has_last = true;
  last = args.positional;
  return changed;
}

}  // namespace

Marked Run::render() {
  Marked out;
  out_ = &out;
  run(program_.body);
  return out;
}

void Run::print(const Value& value) {
  if (value.is_undefined()) return;
  const Marked other = value.is_text() ? Marked() : str(value);
  const Marked& marked = value.is_text() ? value.text() : other;
  charge_bytes(marked.bytes.size() + marked.quoted.size() * sizeof(TextSpan));
  if (out_->bytes.size() + marked.bytes.size() > kMaxOutputBytes) fail("the chat template writes too much");
  out_->append(marked);
}

Run::Flow Run::run(const Body& body) {
  const Deeper deeper(*this);
  for (const auto& stmt : body) {
    const Flow flow = run(*stmt);
    if (flow != Flow::on) return flow;
  }
  return Flow::on;
}

Run::Flow Run::run(const Stmt& stmt) {
  charge(1);
  line_ = stmt.line;
  switch (stmt.tag) {
    case Tag::data:
      charge_bytes(stmt.text.size());
      if (out_->bytes.size() + stmt.text.size() > kMaxOutputBytes) fail("the chat template writes too much");
      out_->append(stmt.text);
      return Flow::on;
    case Tag::print:
      print(eval(*stmt.expr));
      return Flow::on;
    case Tag::branch:
      return run_branch(stmt);
    case Tag::loop:
      return run_loop(stmt, eval(*stmt.expr), 0);
    case Tag::set:
      assign(stmt.target, eval(*stmt.expr));
      return Flow::on;
    case Tag::set_block:
      return run_set_block(stmt);
    case Tag::macro:
      scope_->set(stmt.macro.name, own(std::make_unique<MacroObject>(stmt.macro, scope_)));
      return Flow::on;
    case Tag::call:
      run_call_block(stmt);
      return Flow::on;
    case Tag::filter:
      return run_filter_block(stmt);
    case Tag::with:
      return run_with(stmt);
    case Tag::generation:
      return run_scoped(stmt.body);
    case Tag::stop:
      return Flow::stop;
    case Tag::next:
      return Flow::next;
  }
  return Flow::on;
}

Run::Flow Run::run_branch(const Stmt& stmt) {
  for (const auto& [condition, body] : stmt.branches) {
    charge(1);
    if (truthy(eval(*condition))) return run(body);
  }
  return run(stmt.otherwise);
}

namespace {

// Puts a value back at the end of a block, also when the block throws.
template <class T>
struct Restore {
  Restore(T& where, T value) : where(where), old(std::exchange(where, std::move(value))) {}
  ~Restore() { where = std::move(old); }
  T& where;
  T old;
};

}  // namespace

Run::Flow Run::run_loop(const Stmt& stmt, const Value& over, int depth) {
  std::vector<Value> items = iterate(over);
  if (stmt.condition) {
    const Restore inner(scope_, std::make_shared<Scope>(scope_));
    std::erase_if(items, [&](const Value& item) {
      charge(1);
      assign(stmt.target, item);
      return !truthy(eval(*stmt.condition));
    });
  }
  if (items.empty()) return run_scoped(stmt.otherwise);
  const std::string* name = program_.find("loop");
  const std::shared_ptr<Scope> around = scope_;
  LoopObject* loop = own(std::make_unique<LoopObject>(stmt, std::move(items), around, depth));
  Flow flow = Flow::on;
  for (; loop->index < static_cast<int64_t>(loop->items.size()) && flow != Flow::stop; ++loop->index) {
    charge(1);
    const Restore inner(scope_, std::make_shared<Scope>(around));
    if (name != nullptr) scope_->set(name, Value(static_cast<Object*>(loop)));
    assign(stmt.target, loop->items[static_cast<size_t>(loop->index)]);
    flow = run(stmt.body);
  }
  loop->items.clear();
  loop->last.clear();
  loop->slot = Value();
  return Flow::on;
}

Value Run::run_loop_again(const Stmt& stmt, const std::shared_ptr<Scope>& scope, const Value& over, int depth) {
  const Deeper deeper(*this);
  Marked captured;
  const Restore inner(scope_, scope);
  const Restore to(out_, &captured);
  run_loop(stmt, over, depth);
  return text(std::move(captured));
}

Run::Flow Run::run_scoped(const Body& body) {
  if (body.empty()) return Flow::on;
  const Restore inner(scope_, std::make_shared<Scope>(scope_));
  return run(body);
}

Run::Flow Run::run_captured(const Body& body, Marked& into) {
  const Restore to(out_, &into);
  return run_scoped(body);
}

Run::Flow Run::run_set_block(const Stmt& stmt) {
  Marked captured;
  const Flow flow = run_captured(stmt.body, captured);
  if (flow != Flow::on) return flow;
  Value value = text(std::move(captured));
  assign(stmt.target, stmt.expr ? eval_filter(*stmt.expr, &value) : value);
  return flow;
}

Run::Flow Run::run_filter_block(const Stmt& stmt) {
  Marked captured;
  const Flow flow = run_captured(stmt.body, captured);
  const Value value = text(std::move(captured));
  if (flow != Flow::on) return flow;
  const Value result = eval_filter(*stmt.expr, &value);
  if (!result.is_text()) wrong_type("the filter of a block must give a text, not", result);
  print(result);
  return flow;
}

Run::Flow Run::run_with(const Stmt& stmt) {
  std::vector<Value> values;
  for (const auto& [target, expr] : stmt.assignments) values.push_back(eval(*expr));
  const Restore inner(scope_, std::make_shared<Scope>(scope_));
  for (size_t i = 0; i < values.size(); ++i) assign(stmt.assignments[i].first, values[i]);
  return run(stmt.body);
}

void Run::run_call_block(const Stmt& stmt) {
  const Value caller(static_cast<Object*>(own(std::make_unique<MacroObject>(stmt.macro, scope_))));
  print(eval_call(*stmt.expr, &caller));
}

void Run::assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const std::vector<Value> parts = iterate(value);
    if (parts.size() != target.parts.size()) {
      fail("expected " + std::to_string(target.parts.size()) + " values to assign, got " + std::to_string(parts.size()));
    }
    for (size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], parts[i]);
    return;
  }
  charge(scope_->names.size() / 8);
  if (target.attribute == nullptr) {
    scope_->set(target.name, value);
    return;
  }
  Expr name;
  name.name = target.name;
  name.line = line_;
  const Value object = eval_name(name);
  auto* space = object.is<Object*>() ? dynamic_cast<Namespace*>(object.as<Object*>()) : nullptr;
  if (space == nullptr) fail("cannot assign attribute '" + *target.attribute + "' on something that is not a namespace");
  space->set(*this, *target.attribute, value);
}

// ---- macros ----

Value Run::run_macro(const Macro& macro, const std::shared_ptr<Scope>& scope, const Args& args) {
  const Deeper deeper(*this);
  const std::string what = "macro '" + *macro.name + "'";
  const Restore inner(scope_, std::make_shared<Scope>(scope));
  std::vector<std::pair<Value, Value>> more_named;
  std::vector<const Value*> named(macro.parameters.size());
  Value caller;
  for (const auto& [name, value] : args.named) {
    const auto known = std::find_if(macro.parameters.begin(), macro.parameters.end(), [&](const auto& p) { return *p.first == name; });
    const auto at = static_cast<size_t>(known - macro.parameters.begin());
    if (known != macro.parameters.end() && at < args.positional.size()) fail(what + " got argument '" + name + "' twice");
    if (known != macro.parameters.end()) {
      named[at] = &value;
    } else if (name == "caller" && macro.takes_caller) {
      caller = value;
    } else if (macro.takes_named) {
      more_named.emplace_back(text(name), value);
    } else {
      fail(what + " takes no keyword argument '" + name + "'");
    }
  }
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const auto& [name, otherwise] = macro.parameters[i];
    if (i < args.positional.size()) {
      scope_->set(name, args.positional[i]);
    } else if (named[i] != nullptr) {
      scope_->set(name, *named[i]);
    } else {
      scope_->set(name, otherwise ? eval(*otherwise) : Value(Undefined{name, nullptr, false}));
    }
  }
  if (args.positional.size() > macro.parameters.size() && !macro.takes_more) {
    fail(what + " takes not more than " + std::to_string(macro.parameters.size()) + " arguments");
  }
  if (macro.takes_more) {
    const auto from = static_cast<ptrdiff_t>(std::min(args.positional.size(), macro.parameters.size()));
    scope_->set(program_.find("varargs"),
                list(std::vector<Value>(args.positional.begin() + from, args.positional.end()), List::Kind::tuple));
  }
  if (macro.takes_named) scope_->set(program_.find("kwargs"), dict(std::move(more_named)));
  if (macro.takes_caller) scope_->set(program_.find("caller"), caller);
  Marked captured;
  const Restore to(out_, &captured);
  run(macro.body);
  return text(std::move(captured));
}

}  // namespace fettle::jinja
