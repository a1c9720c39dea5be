// A parsed chat template. Names are kept once, so that two are equal when their addresses are.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "text/template_value.h"

namespace fettle::jinja {

struct Filter {
  const char* name;
  Value (*apply)(Run&, const Value&, const Args&);
};
struct Test {
  const char* name;
  bool (*holds)(Run&, const Value&, const Args&);
};
// nullptr when there is none of that name.
const Filter* find_filter(std::string_view name);
const Test* find_test(std::string_view name);

enum class Op : uint8_t {
  constant,
  name,
  list,
  tuple,
  dict,
  attribute,
  item,
  slice,
  call,
  filter,
  test,
  negated,
  negative,
  positive,
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  concatenate,
  compare,
  both,
  either,
  condition
};
enum class Comparison : uint8_t { equal, unequal, less, less_equal, greater, greater_equal, in, not_in };

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  Op op = Op::constant;
  int line = 0;
  int depth = 1;
  const std::string* name = nullptr;  // of a variable or an attribute
  Value value;                        // constants
  // Operands. item: object, key. slice: object, start, stop, step (nullptr: absent). call: callee, arguments. filter, test: the value
  // (nullptr: the text of a block), arguments. dict: key, value, key, value. condition: test, then, else (or nullptr).
  std::vector<ExprPtr> items;
  std::vector<std::pair<const std::string*, ExprPtr>> named;  // arguments by name
  ExprPtr star, double_star;                                  // *arguments, **arguments
  std::vector<Comparison> comparisons;                        // one less than items
  const Filter* filter = nullptr;
  const Test* test = nullptr;
};

// What is assigned to: a name, an attribute of a namespace, or several.
struct Target {
  const std::string* name = nullptr;
  const std::string* attribute = nullptr;
  std::vector<Target> parts;
  bool is_tuple = false;
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

struct Macro {
  const std::string* name = nullptr;
  std::vector<std::pair<const std::string*, ExprPtr>> parameters;  // with defaults
  Body body;
  bool takes_more = false, takes_named = false, takes_caller = false;  // whether it speaks of varargs, kwargs, caller
};

enum class Tag : uint8_t { data, print, branch, loop, set, set_block, macro, call, filter, with, generation, stop, next };

struct Stmt {
  Tag tag = Tag::data;
  int line = 0;
  std::string text;                                     // data
  ExprPtr expr;                                         // print, set; call: the call; filter, set_block: the filters; loop: over what
  ExprPtr condition;                                    // loop: which items
  std::vector<std::pair<ExprPtr, Body>> branches;       // branch
  std::vector<std::pair<Target, ExprPtr>> assignments;  // with
  Target target;                                        // set, loop
  Body body, otherwise;
  bool recursive = false;  // loop
  Macro macro;             // macro, call
};

struct Program {
  std::string place;
  std::unordered_set<std::string> names;
  Body body;
  // nullptr: the template never speaks of it
  const std::string* find(const std::string& name) const {
    const auto found = names.find(name);
    return found == names.end() ? nullptr : &*found;
  }
};

// Throws Error{refused} naming place, line and what is not understood.
Program parse(std::string_view source, std::string place);

}  // namespace fettle::jinja
