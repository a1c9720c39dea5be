// Methods of dictionaries and lists, as Python has them, and which methods a value has. Those that change a list or dictionary are
// forbidden, as in Jinja2's immutable sandbox.
#include "text/template_methods.h"

#include <algorithm>

namespace fettle::jinja {
namespace {

using Kind = List::Kind;

Value dict_get(Run& run, const Value& self, const Args& args) {
  const Params p(run, "get", args, {"key", "default"}, 1);
  run.charge(self.dict().items.size() / 16);
  const Value* found = self.dict().find(*p[0]);
  if (found != nullptr) return *found;
  return p[1] != nullptr ? *p[1] : Value(None{});
}

Value dict_list(Run& run, const Value& self, const Args& args, Kind kind) {
  const Params none(run, "this method", args, {});
  std::vector<Value> items;
  run.charge(self.dict().items.size());
  for (const auto& [key, value] : self.dict().items) {
    items.push_back(kind == Kind::keys ? key : kind == Kind::values ? value : run.list({key, value}, Kind::tuple));
  }
  return run.list(std::move(items), kind);
}

constexpr NamedMethod kDictMethods[] = {
    {"get", dict_get},
    {"keys", [](Run& r, const Value& s, const Args& a) { return dict_list(r, s, a, Kind::keys); }},
    {"values", [](Run& r, const Value& s, const Args& a) { return dict_list(r, s, a, Kind::values); }},
    {"items", [](Run& r, const Value& s, const Args& a) { return dict_list(r, s, a, Kind::items); }},
    {"copy",
     [](Run& r, const Value& s, const Args& a) {
       const Params none(r, "copy", a, {});
       return s;
     }},
};

Value list_index(Run& run, const Value& self, const Args& args) {
  const Params p(run, "index", args, {"value"}, 1);
  const auto& items = self.list().items;
  for (size_t i = 0; i < items.size(); ++i) {
    run.charge(1);
    if (run.same(items[i], *p[0])) return static_cast<int64_t>(i);
  }
  run.fail("index: the value is not in the list");
}

Value list_count(Run& run, const Value& self, const Args& args) {
  const Params p(run, "count", args, {"value"}, 1);
  int64_t n = 0;
  for (const Value& item : self.list().items) {
    run.charge(1);
    n += run.same(item, *p[0]) ? 1 : 0;
  }
  return n;
}

constexpr NamedMethod kListMethods[] = {
    {"index", list_index},
    {"count", list_count},
    {"copy",
     [](Run& r, const Value& s, const Args& a) {
       const Params none(r, "copy", a, {});
       return s;
     }},
};

const NamedMethod* find_method(const Value& of, std::string_view name) {
  const auto in = [&](const auto& methods) -> const NamedMethod* {
    const auto found = std::find_if(std::begin(methods), std::end(methods), [&](const NamedMethod& m) { return m.name == name; });
    return found == std::end(methods) ? nullptr : &*found;
  };
  if (of.is_text()) return in(text_methods());
  if (of.is_dict()) return in(kDictMethods);
  if (of.is_list() && (of.list().kind == Kind::list || (of.list().kind == Kind::tuple && name != "copy"))) return in(kListMethods);
  return nullptr;
}

}  // namespace

bool is_method(const Value& of, std::string_view name) {
  if (of.is<Object*>()) return of.as<Object*>()->has_method(name);
  return find_method(of, name) != nullptr;
}

bool is_forbidden(const Value& of, std::string_view name) {
  constexpr std::string_view kDict[] = {"clear", "fromkeys", "pop", "popitem", "setdefault", "update"};
  constexpr std::string_view kList[] = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};
  constexpr std::string_view kText[] = {"encode", "expandtabs", "format_map", "isidentifier", "istitle", "maketrans", "translate"};
  const auto in = [&](const auto& names) { return std::find(std::begin(names), std::end(names), name) != std::end(names); };
  if (name.starts_with("__")) return true;
  return (of.is_dict() && in(kDict)) || (of.is_list() && of.list().kind == Kind::list && in(kList)) || (of.is_text() && in(kText));
}

Value Run::call_method(const Value& self, const std::string& name, const Args& args) {
  if (self.is<Object*>()) return self.as<Object*>()->call_method(*this, name, args);
  const NamedMethod* method = find_method(self, name);
  if (method == nullptr) fail(std::string("a '") + type_name(self) + "' has no method '" + name + "'");
  return method->call(*this, self, args);
}

}  // namespace fettle::jinja
