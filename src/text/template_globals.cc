// Tests ("x is defined") and the functions that every chat template may call.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "text/template_run.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace fettle::jinja {
namespace {

using Kind = List::Kind;

// A test with one argument, or none.
const Value& argument(Run& run, const Args& args) {
  const Params p(run, "this test", args, {"value"}, 1);
  return *p[0];
}

void nothing(Run& run, const Args& args) { const Params none(run, "this test", args, {}); }

bool is_iterable(const Value& v) { return v.is_text() || v.is_list() || v.is_dict() || v.is_undefined(); }

bool is_sequence(const Value& v) {
  const bool list = v.is_list() && (v.list().kind == Kind::list || v.list().kind == Kind::tuple || v.list().kind == Kind::range);
  return v.is_text() || list || v.is_dict() || v.is_undefined();
}

bool is_callable(const Value& v) {
  return v.is<std::shared_ptr<const Method>>() || (v.is<Object*>() && v.as<Object*>()->callable()) || v.is_undefined();
}

bool is_same_object(const Value& a, const Value& b) {
  if (a.data.index() != b.data.index()) return false;
  if (a.is_list()) return &a.list() == &b.list();
  if (a.is_dict()) return &a.dict() == &b.dict();
  return equal(a, b);
}

bool divides(Run& run, const Value& v, const Args& args) {
  const Value rest = run.arithmetic(Op::modulo, v, argument(run, args));
  return rest.is_number() && rest.real() == 0;
}

template <int64_t remainder>
bool parity(Run& run, const Value& v, const Args& args) {
  nothing(run, args);
  const Value rest = run.arithmetic(Op::modulo, v, int64_t{2});
  return rest.is_number() && rest.real() == static_cast<double>(remainder);
}

template <bool (*holds)(const Value&)>
bool plain(Run& run, const Value& v, const Args& args) {
  nothing(run, args);
  return holds(v);
}

bool has_case(Run& run, const Value& v, const Args& args, const char* method) {
  return truthy(run.call_method(run.text(run.str(v)), method, args));
}

bool same(Run& r, const Value& v, const Args& a) { return r.same(v, argument(r, a)); }
bool unlike(Run& r, const Value& v, const Args& a) { return !r.same(v, argument(r, a)); }
bool below(Run& r, const Value& v, const Args& a) { return r.less(v, argument(r, a)); }
bool above(Run& r, const Value& v, const Args& a) { return r.less(argument(r, a), v); }
bool at_most(Run& r, const Value& v, const Args& a) { return below(r, v, a) || same(r, v, a); }
bool at_least(Run& r, const Value& v, const Args& a) { return above(r, v, a) || same(r, v, a); }

constexpr Test kTests[] = {
    {"!=", unlike},
    {"<", below},
    {"<=", at_most},
    {"==", same},
    {">", above},
    {">=", at_least},
    {"boolean", plain<[](const Value& v) { return v.is<bool>(); }>},
    {"callable", plain<is_callable>},
    {"defined", plain<[](const Value& v) { return !v.is_undefined(); }>},
    {"divisibleby", divides},
    {"eq", same},
    {"equalto", same},
    {"even", parity<0>},
    {"false", plain<[](const Value& v) { return v.is<bool>() && !v.as<bool>(); }>},
    {"filter", [](Run& r, const Value& v, const Args& a) { return nothing(r, a), v.is_text() && find_filter(v.text().bytes) != nullptr; }},
    {"float", plain<[](const Value& v) { return v.is<double>(); }>},
    {"ge", at_least},
    {"greaterthan", above},
    {"gt", above},
    {"in", [](Run& r, const Value& v, const Args& a) { return r.contains(argument(r, a), v); }},
    {"integer", plain<[](const Value& v) { return v.is<int64_t>(); }>},
    {"iterable", plain<is_iterable>},
    {"le", at_most},
    {"lessthan", below},
    {"lower", [](Run& r, const Value& v, const Args& a) { return has_case(r, v, a, "islower"); }},
    {"lt", below},
    {"mapping", plain<[](const Value& v) { return v.is_dict(); }>},
    {"ne", unlike},
    {"none", plain<[](const Value& v) { return v.is_none(); }>},
    {"number", plain<[](const Value& v) { return v.is_number(); }>},
    {"odd", parity<1>},
    {"sameas", [](Run& r, const Value& v, const Args& a) { return is_same_object(v, argument(r, a)); }},
    {"sequence", plain<is_sequence>},
    {"string", plain<[](const Value& v) { return v.is_text(); }>},
    {"test", [](Run& r, const Value& v, const Args& a) { return nothing(r, a), v.is_text() && find_test(v.text().bytes) != nullptr; }},
    {"true", plain<[](const Value& v) { return v.is<bool>() && v.as<bool>(); }>},
    {"undefined", plain<[](const Value& v) { return v.is_undefined(); }>},
    {"upper", [](Run& r, const Value& v, const Args& a) { return has_case(r, v, a, "isupper"); }},
};

// ---- functions ----

struct Function : Object {
  Function(const char* name, Value (*body)(Run&, const Args&)) : name(name), body(body) {}
  const char* type() const override { return "function"; }
  bool callable() const override { return true; }
  Value call(Run& run, const Args& args) override { return body(run, args); }
  const char* name;
  Value (*body)(Run&, const Args&);
};

// "joiner": nothing at first, then always its text. "cycler": one of its items after another.
struct Joiner : Object {
  const char* type() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value call(Run& run, const Args&) override { return std::exchange(used, true) ? separator : run.text(Marked()); }
  Value separator;
  bool used = false;
};

struct Cycler : Object {
  const char* type() const override { return "Cycler"; }
  const Value* attribute(std::string_view name) const override { return name == "current" ? &items[at] : nullptr; }
  bool has_method(std::string_view name) const override { return name == "next" || name == "reset"; }
  Value call_method(Run& run, const std::string& name, const Args& args) override {
    const Params none(run, name, args, {});
    const size_t now = at;
    at = name == "reset" ? 0 : (at + 1) % items.size();
    return name == "reset" ? Value(None{}) : items[now];
  }
  std::vector<Value> items;
  size_t at = 0;
};

Value range(Run& run, const Args& args) {
  const Params p(run, "range", args, {"start", "stop", "step"}, 1);
  const bool one = p[1] == nullptr;
  const int64_t start = one ? 0 : p.whole(0, 0), stop = p.whole(one ? 0 : 1, 0), step = p.whole(2, 1);
  if (step == 0) run.fail("range: the step cannot be zero");
  std::vector<Value> items;
  const auto distance = static_cast<double>(stop) - static_cast<double>(start);
  if (distance / static_cast<double>(step) > static_cast<double>(kMaxRange)) {
    run.fail("range of more than " + std::to_string(kMaxRange) + " numbers");
  }
  for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
    items.push_back(i);
    if (step > 0 ? step >= stop - i : step <= stop - i) break;
  }
  return run.list(std::move(items), Kind::range);
}

// The items of dict(...) and namespace(...): a mapping or pairs, then names.
std::vector<std::pair<Value, Value>> entries(Run& run, const Args& args, const char* what) {
  if (args.positional.size() > 1) run.fail(std::string(what) + " takes at most one value without a name");
  std::vector<std::pair<Value, Value>> items;
  if (!args.positional.empty() && args.positional[0].is_dict()) items = args.positional[0].dict().items;
  if (!args.positional.empty() && !args.positional[0].is_dict()) {
    for (const Value& pair : run.iterate(args.positional[0])) {
      std::vector<Value> parts = run.iterate(pair);
      if (parts.size() != 2) run.fail(std::string(what) + " needs pairs");
      items.emplace_back(std::move(parts[0]), std::move(parts[1]));
    }
  }
  for (const auto& [name, value] : args.named) items.emplace_back(run.text(name), value);
  return items;
}

Value dict(Run& run, const Args& args) { return run.dict(entries(run, args, "dict")); }

Value name_space(Run& run, const Args& args) {
  auto* space = run.own(std::make_unique<Namespace>());
  for (const auto& [key, value] : entries(run, args, "namespace")) {
    if (!key.is_text()) run.wrong_type("names of a namespace are texts, not", key);
    space->set(run, key.text().bytes, value);
  }
  return static_cast<Object*>(space);
}

Value raise_exception(Run& run, const Args& args) {
  const Params p(run, "raise_exception", args, {"message"}, 1);
  run.fail(run.str(*p[0]).bytes, "the model's chat template itself refuses these messages");
}

Value strftime_now(Run& run, const Args& args) {
  const Params p(run, "strftime_now", args, {"format"}, 1);
  if (p.text(0) == nullptr) run.fail("strftime_now: a format is needed");
  const std::string& format = p.text(0)->bytes;
  if (format.size() > 200) run.fail("strftime_now: the format is too long");
  // Widths ("%999999d") are extensions of the C library that no template needs.
  for (size_t at = format.find('%'); at != std::string::npos; at = format.find('%', at + 2)) {
    const size_t letter = at + 1 < format.size() && format[at + 1] == '-' ? at + 2 : at + 1;
    if (letter >= format.size() || (std::isalpha(static_cast<unsigned char>(format[letter])) == 0 && format[letter] != '%')) {
      run.fail("strftime_now: unknown format '" + format + "'");
    }
  }
  const std::time_t now = run.now_seconds >= 0 ? static_cast<std::time_t>(run.now_seconds) : std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char buffer[4096];
  const size_t n = std::strftime(buffer, sizeof buffer, format.c_str(), &parts);
  return run.text(std::string(buffer, n));
}

Value joiner(Run& run, const Args& args) {
  const Params p(run, "joiner", args, {"sep"});
  auto* object = run.own(std::make_unique<Joiner>());
  object->separator = p[0] == nullptr ? run.text(std::string(", ")) : *p[0];
  return static_cast<Object*>(object);
}

Value cycler(Run& run, const Args& args) {
  if (args.positional.empty() || !args.named.empty()) run.fail("cycler needs items");
  auto* object = run.own(std::make_unique<Cycler>());
  object->items = args.positional;
  return static_cast<Object*>(object);
}

}  // namespace

const Test* find_test(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTests), std::end(kTests), [&](const Test& t) { return t.name == name; });
  return found == std::end(kTests) ? nullptr : found;
}

void give_globals(const Program& program, Scope& scope) {
  static Function functions[] = {{"range", range},
                                 {"dict", dict},
                                 {"namespace", name_space},
                                 {"raise_exception", raise_exception},
                                 {"strftime_now", strftime_now},
                                 {"joiner", joiner},
                                 {"cycler", cycler}};
  for (Function& function : functions) {
    if (const std::string* name = program.find(function.name); name != nullptr) scope.set(name, Value(static_cast<Object*>(&function)));
  }
}

}  // namespace fettle::jinja
