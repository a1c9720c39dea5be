// One render of a chat template: scopes, output and the limits that make it end. Filters, tests and methods work through this class, which
// makes their values and counts what they cost.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template_program.h"
#include "text/template_value.h"

namespace fettle::jinja {

inline constexpr size_t kMaxSteps = 10'000'000;              // about a second
inline constexpr size_t kMaxHeapBytes = size_t{128} << 20;   // values alive at once
inline constexpr size_t kMaxOutputBytes = size_t{32} << 20;  // of the render, or of one macro call
inline constexpr size_t kMaxWeight = size_t{128} << 20;      // of one list or dictionary (see List::weight)
inline constexpr int kMaxDepth = 800;                        // expressions and blocks within each other while rendering
inline constexpr int kMaxValueDepth = 100;                   // lists within lists
inline constexpr size_t kMaxOddKeys = 64;                    // keys of a dictionary that are no texts: they are compared one by one
inline constexpr int64_t kMaxRange = 100'000;                // as Jinja2's sandbox has it

// The variables of a block. Inner blocks read outer ones and write their own.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : outer(std::move(outer)) {}
  std::shared_ptr<Scope> outer;
  std::vector<std::pair<const std::string*, Value>> names;
  void set(const std::string* name, Value value);
};

class Run {
 public:
  explicit Run(const Program& program);
  ~Run();
  Run(const Run&) = delete;

  // A variable that the caller of the template gives. Ignored when the template never speaks of it.
  void give(const std::string& name, Value value);
  Marked render();

  // What an error says is at the line that is running.
  [[noreturn]] void fail(const std::string& what, const std::string& hint = {}) const;
  void charge(size_t n_steps);
  void charge_bytes(size_t n) { charge(n / 32); }
  void need(size_t n_bytes);  // refuses when this much more would be too much

  Value text(Marked marked);
  Value text(std::string bytes) { return text(Marked(std::move(bytes))); }
  Value text_part(const Marked& whole, size_t begin, size_t end) { return text(whole.slice(begin, end)); }
  Value list(std::vector<Value> items, List::Kind kind = List::Kind::list);
  Value dict(std::vector<std::pair<Value, Value>> items);
  Value undefined(const Value& of, const std::string& name);
  template <class T>
  T* own(std::unique_ptr<T> object) {
    T* raw = object.get();
    raw->n_bytes = sizeof(T) + 32;
    adopt(std::move(object));
    return raw;
  }

  void require_defined(const Value& value);
  [[noreturn]] void wrong_type(const std::string& what, const Value& value);  // "what 'str'"
  Marked str(const Value& value);                                             // Python's str()
  std::vector<Value> iterate(const Value& value);                             // refuses what cannot be looped over
  Value attribute(const Value& of, const std::string& name);
  Value item(const Value& of, const Value& key);
  Value call(const Value& callee, const Args& args);
  Value call_method(const Value& self, const std::string& name, const Args& args);
  bool less(const Value& a, const Value& b);  // a < b; refuses what has no order
  bool same(const Value& a, const Value& b);  // a == b, counted
  bool contains(const Value& container, const Value& value);
  Value add(const Value& a, const Value& b);
  Value arithmetic(Op op, const Value& a, const Value& b);

  // For macros and loops.
  Value run_macro(const Macro& macro, const std::shared_ptr<Scope>& scope, const Args& args);
  Value run_loop_again(const Stmt& stmt, const std::shared_ptr<Scope>& scope, const Value& over, int depth);
  int64_t now_seconds = -1;  // for strftime_now; -1: the clock's

 private:
  enum class Flow : uint8_t { on, stop, next };
  struct Deeper {
    explicit Deeper(Run& run) : run(run) {
      if (run.depth_ >= kMaxDepth) run.fail("the chat template calls itself too deeply");
      ++run.depth_;
    }
    ~Deeper() { --run.depth_; }
    Run& run;
  };

  void adopt(std::unique_ptr<Object> object);
  Flow run(const Body& body);
  Flow run(const Stmt& stmt);
  Flow run_branch(const Stmt& stmt);
  Flow run_loop(const Stmt& stmt, const Value& over, int depth);
  Flow run_captured(const Body& body, Marked& into);
  Flow run_scoped(const Body& body);
  Flow run_set_block(const Stmt& stmt);
  Flow run_filter_block(const Stmt& stmt);
  Flow run_with(const Stmt& stmt);
  void run_call_block(const Stmt& stmt);
  void print(const Value& value);
  void assign(const Target& target, const Value& value);

  Value eval(const Expr& expr);
  Value eval_name(const Expr& expr);
  Value eval_items(const Expr& expr);
  Value eval_dict(const Expr& expr);
  Value eval_slice(const Expr& expr);
  Value eval_call(const Expr& expr, const Value* caller);
  Value eval_filter(const Expr& expr, const Value* given);
  bool eval_test(const Expr& expr);
  Value eval_compare(const Expr& expr);
  Value eval_concatenation(const Expr& expr);
  Value eval_sign(const Expr& expr);
  Args eval_args(const Expr& expr);
  bool holds(Comparison comparison, const Value& a, const Value& b);

  const Program& program_;
  Heap heap_;
  std::vector<std::unique_ptr<Object>> objects_;
  std::shared_ptr<Scope> scope_;
  Marked* out_ = nullptr;
  size_t n_steps_ = 0;
  int depth_ = 0;
  int line_ = 1;
};

// What a filter, test, method or function was given, by position or name. `what` is for errors.
class Params {
 public:
  Params(Run& run, std::string what, const Args& args, std::initializer_list<const char*> names, size_t n_required = 0);
  const Value* operator[](size_t i) const { return given_[i]; }  // nullptr: not given
  bool flag(size_t i, bool otherwise) const { return given_[i] == nullptr ? otherwise : truthy(*given_[i]); }
  int64_t whole(size_t i, int64_t otherwise) const;
  const Marked* text(size_t i) const;  // nullptr: not given, or none
  Run& run() const { return run_; }
  const std::string& what() const { return what_; }

 private:
  Run& run_;
  std::string what_;
  std::vector<const Value*> given_;
};

bool is_method(const Value& of, std::string_view name);     // that fettle has
bool is_forbidden(const Value& of, std::string_view name);  // that Python has, but the sandbox or fettle has not
Marked repr(Run& run, const Value& value);
// The options of json.dumps that templates use.
struct JsonLayout {
  bool ascii = false, sort_keys = false, lines = false;
  std::string indent, between = ", ", after_key = ": ";
};
Marked to_json(Run& run, const Value& value, const JsonLayout& layout);
Marked percent_format(Run& run, const Marked& format, const Value& values);  // "%s" % x
Marked brace_format(Run& run, const Marked& format, const Args& args);       // "{}".format(x)
// range, namespace, ...: sets them in `scope` where the program names them.
void give_globals(const Program& program, Scope& scope);

// A namespace, the one value that changes.
struct Namespace : Object {
  const char* type() const override { return "Namespace"; }
  const Value* attribute(std::string_view name) const override;
  void set(Run& run, const std::string& name, Value value);
  std::vector<std::pair<std::string, Value>> values;
};

}  // namespace fettle::jinja
