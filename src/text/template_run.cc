// The limits of a render, and the values that it makes: each is charged for before it exists.
#include "text/template_run.h"

#include <algorithm>

#include "base/error.h"
#include "text/template_lexer.h"

namespace fettle::jinja {
namespace {

size_t weight_of(const Value& value) {
  constexpr size_t kPlain = 8;
  if (value.is_text()) return kPlain + value.text().bytes.size();
  if (value.is_list()) return value.list().weight;
  if (value.is_dict()) return value.dict().weight;
  return kPlain;
}

int depth_of(const Value& value) {
  if (value.is_list()) return value.list().depth;
  if (value.is_dict()) return value.dict().depth;
  if (value.is<std::shared_ptr<const Method>>()) return depth_of(value.as<std::shared_ptr<const Method>>()->self);
  return 0;
}

}  // namespace

Value Object::call(Run& run, const Args&) { run.fail(std::string("'") + type() + "' is not callable"); }
Value Object::call_method(Run& run, const std::string& name, const Args&) {
  run.fail(std::string("'") + type() + "' has no method '" + name + "'");
}

const Value* Namespace::attribute(std::string_view name) const {
  const auto found = std::find_if(values.begin(), values.end(), [&](const auto& pair) { return pair.first == name; });
  return found == values.end() ? nullptr : &found->second;
}

void Namespace::set(Run& run, const std::string& name, Value value) {
  if (name.starts_with('_')) run.fail("a namespace cannot hold '" + name + "': names that begin with an underscore are not allowed");
  if (const Value* known = attribute(name); known != nullptr) {
    *const_cast<Value*>(known) = std::move(value);
    return;
  }
  run.charge(values.size());
  run.need(name.size() + sizeof(Value));
  values.emplace_back(name, std::move(value));
}

void Scope::set(const std::string* name, Value value) {
  for (auto& [known, old] : names) {
    if (known != name) continue;
    old = std::move(value);
    return;
  }
  names.emplace_back(name, std::move(value));
}

// ---- limits and values ----

Run::Run(const Program& program) : program_(program), scope_(std::make_shared<Scope>(nullptr)) { give_globals(program, *scope_); }
Run::~Run() = default;

void Run::give(const std::string& name, Value value) {
  if (const std::string* known = program_.find(name); known != nullptr) scope_->set(known, std::move(value));
}

void Run::fail(const std::string& what, const std::string& hint) const { fail_at(program_.place, line_, what, hint); }

void Run::charge(size_t n_steps) {
  n_steps_ += n_steps;
  if (n_steps_ > kMaxSteps || n_steps > kMaxSteps) fail("the chat template does not come to an end: it took too many steps");
}

void Run::need(size_t n_bytes) {
  if (n_bytes > kMaxHeapBytes || heap_.live_bytes + n_bytes > kMaxHeapBytes) fail("the chat template needs too much memory");
}

Value Run::text(Marked marked) {
  const size_t n = sizeof(Text) + 16 + marked.bytes.size() + marked.quoted.size() * sizeof(TextSpan);
  need(n);
  charge_bytes(n);
  auto text = std::make_shared<Text>(std::move(marked));
  text->heap = &heap_;
  heap_.live_bytes += text->n_bytes = n;
  return std::shared_ptr<const Text>(std::move(text));
}

Value Run::list(std::vector<Value> items, List::Kind kind) {
  const size_t n = sizeof(List) + 16 + items.size() * sizeof(Value);
  need(n);
  charge(items.size() / 4);
  int depth = 0;
  size_t weight = 16;
  for (const Value& item : items) {
    depth = std::max(depth, depth_of(item));
    weight += weight_of(item);
    if (weight > kMaxWeight) fail("the chat template needs too much memory");
  }
  if (depth >= kMaxValueDepth) fail("lists and dictionaries are nested too deeply");
  auto list = std::make_shared<List>(std::move(items), kind);
  list->depth = depth + 1;
  list->weight = weight;
  list->heap = &heap_;
  heap_.live_bytes += list->n_bytes = n;
  return std::shared_ptr<const List>(std::move(list));
}

Value Run::dict(std::vector<std::pair<Value, Value>> items) {
  const size_t n = sizeof(Dict) + 16 + items.size() * (2 * sizeof(Value) + 48);
  need(n);
  charge(items.size());
  int depth = 0;
  size_t weight = 16, n_odd = 0;
  for (const auto& [key, value] : items) {
    if (key.is_dict() || (key.is_list() && key.list().kind != List::Kind::tuple)) wrong_type("this cannot be a key:", key);
    n_odd += key.is_text() ? 0 : 1;
    if (n_odd > kMaxOddKeys) fail("a dictionary with more than " + std::to_string(kMaxOddKeys) + " keys that are no texts");
    depth = std::max({depth, depth_of(key), depth_of(value)});
    weight += weight_of(key) + weight_of(value);
    if (weight > kMaxWeight) fail("the chat template needs too much memory");
  }
  if (depth >= kMaxValueDepth) fail("lists and dictionaries are nested too deeply");
  auto dict = std::make_shared<Dict>(std::move(items));
  dict->depth = depth + 1;
  dict->weight = weight;
  dict->heap = &heap_;
  heap_.live_bytes += dict->n_bytes = n;
  return std::shared_ptr<const Dict>(std::move(dict));
}

void Run::adopt(std::unique_ptr<Object> object) {
  need(object->n_bytes);
  heap_.live_bytes += object->n_bytes;
  objects_.push_back(std::move(object));
}

}  // namespace fettle::jinja
