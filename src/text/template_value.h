// Values of chat templates, with Python's meaning. Two things are not Python's: a text remembers which of its bytes came from outside (from
// messages and tools, not from the template), so that nobody's content can be read as a special token; and every value counts what it
// holds against the render's memory, so that a template cannot eat the machine. Lists and dictionaries never change once made, which is
// what Jinja2's immutable sandbox grants too; only namespaces do, and those belong to the render.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "text/tokenizer.h"

namespace fettle::jinja {

// Memory of one render. Texts and lists give back what they took.
struct Heap {
  size_t live_bytes = 0;
};

struct Tracked {
  Tracked() = default;
  Tracked(const Tracked&) = delete;
  Tracked& operator=(const Tracked&) = delete;
  ~Tracked() {
    if (heap != nullptr) heap->live_bytes -= n_bytes;
  }
  Heap* heap = nullptr;  // nullptr: a constant of the template
  size_t n_bytes = 0;
};

// A text and which of its bytes came from outside: sorted spans that do not touch.
struct Marked {
  std::string bytes;
  std::vector<TextSpan> quoted;

  Marked() = default;
  explicit Marked(std::string text) : bytes(std::move(text)) {}
  void append(std::string_view text) { bytes += text; }
  void append_quoted(std::string_view text);
  void append(const Marked& from, size_t begin = 0, size_t end = SIZE_MAX);
  Marked slice(size_t begin, size_t end = SIZE_MAX) const;
  // `changed` was made of this text in a way that spans cannot follow: it is quoted whole when any of this was.
  Marked like(std::string changed) const;

 private:
  void quote(size_t begin, size_t end);
};

struct Text : Tracked {
  explicit Text(Marked text) : marked(std::move(text)) {}
  Marked marked;
};

struct Value;
struct List;
struct Dict;
struct Method;
struct Object;

struct None {};
struct Undefined {
  const std::string* name = nullptr;  // lives as long as the template
  const char* of = nullptr;           // the type that has no such attribute; nullptr: a variable
  bool forbidden = false;             // exists in Python, but the sandbox does not give it
};

struct Value {
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<const Method>, Object*>
      data;

  Value() = default;
  template <class T>
  Value(T value) : data(std::move(value)) {}  // NOLINT: values are made of what they hold
  template <class T>
  bool is() const {
    return std::holds_alternative<T>(data);
  }
  template <class T>
  const T& as() const {
    return std::get<T>(data);
  }
  bool is_undefined() const { return is<Undefined>(); }
  bool is_none() const { return is<None>(); }
  bool is_text() const { return is<std::shared_ptr<const Text>>(); }
  bool is_list() const { return is<std::shared_ptr<const List>>(); }
  bool is_dict() const { return is<std::shared_ptr<const Dict>>(); }
  bool is_whole() const { return is<int64_t>() || is<bool>(); }  // Python's bool is an int
  bool is_number() const { return is_whole() || is<double>(); }
  const Marked& text() const { return as<std::shared_ptr<const Text>>()->marked; }
  const List& list() const { return *as<std::shared_ptr<const List>>(); }
  const Dict& dict() const { return *as<std::shared_ptr<const Dict>>(); }
  int64_t whole() const { return is<bool>() ? static_cast<int64_t>(as<bool>()) : as<int64_t>(); }
  double real() const { return is<double>() ? as<double>() : static_cast<double>(whole()); }
};

struct List : Tracked {
  // An iterator is what filters such as map give: always true, without a length, gone once read.
  enum class Kind : uint8_t { list, tuple, keys, values, items, range, iterator };
  List(std::vector<Value> values, Kind what) : items(std::move(values)), kind(what) {}
  std::vector<Value> items;
  Kind kind;
  int depth = 1;
  size_t weight = 0;         // bytes that printing it would take, about: shared parts count as often as they occur
  mutable size_t taken = 0;  // iterators: how many have been read
};

struct Dict : Tracked {
  explicit Dict(std::vector<std::pair<Value, Value>> pairs);  // of equal keys the first keeps its place, the last its value
  const Value* find(std::string_view key) const;
  const Value* find(const Value& key) const;
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;
  size_t weight = 0;  // as List's

 private:
  std::unordered_map<std::string_view, size_t> index_;  // text keys, where there are many
};

// "x.split" before it is called.
struct Method : Tracked {
  Value self;
  std::string name;
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Run;

// What is neither data nor text: namespaces, macros, functions, loop. Owned by the render.
struct Object {
  virtual ~Object() = default;
  virtual const char* type() const = 0;
  virtual const Value* attribute(std::string_view) const { return nullptr; }
  virtual bool callable() const { return false; }
  virtual Value call(Run&, const Args&);                             // refuses, unless an object knows better
  virtual bool has_method(std::string_view) const { return false; }  // loop.cycle
  virtual Value call_method(Run&, const std::string&, const Args&);
  size_t n_bytes = 0;
};

bool truthy(const Value& value);
const char* type_name(const Value& value);
// Python's ==. Never throws; depth is bounded when values are made.
bool equal(const Value& a, const Value& b);
std::string number_text(double value);

}  // namespace fettle::jinja
