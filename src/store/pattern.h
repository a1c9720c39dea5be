// A regular expression from outside: compiled once, matched with limits so that no expression can hold us up. Private to store.
#pragma once
#include <memory>
#include <string>
#include <string_view>

namespace fettle {

class Pattern {
 public:
  // Error{refused} naming `place` when the expression is malformed.
  Pattern(const std::string& expression, const std::string& place);
  // Found anywhere in the text? Error{refused} when the limits are reached.
  bool matches(std::string_view text) const;

 private:
  std::shared_ptr<const void> code_;
  std::string place_;
};

}  // namespace fettle
