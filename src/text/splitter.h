// Pre-tokenizers: cutting a text into the pieces that a model encodes one by one, step after step, without ever holding a list of them.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/function_ref.h"
#include "text/pretokenize.h"
#include "text/regex.h"
#include "text/token_rules.h"

namespace fettle {

class Splitter {
 public:
  // Error{refused} naming `place` when an expression cannot be read. A last step that only names bytes by letters is left to the model:
  // see ends_in_letters.
  Splitter(std::vector<SplitStep> steps, const std::string& place);
  // Calls piece(text) for every piece, none empty, from left to right. `at_start`: the text begins where the whole input begins.
  void split(std::string_view text, bool at_start, FunctionRef<void(std::string_view)> piece) const;
  // Pieces are bytes that stand for letters of a byte-level vocabulary.
  bool ends_in_letters() const { return letters_; }

 private:
  struct Step {
    SplitStep rule;
    std::optional<PreTokenizer> scanner;  // a pattern that is known, by hand
    std::optional<Matcher> matcher;
  };
  using Emit = FunctionRef<void(std::string_view)>;
  using Match = FunctionRef<void(size_t, size_t)>;
  void run(size_t step, std::string_view text, bool at_start, Emit emit) const;
  void cut(const Step& step, std::string_view text, Emit emit) const;
  static void each_match(const Step& step, std::string_view text, Match match);
  static std::string rewritten(const SplitStep& rule, std::string_view text, bool at_start);

  std::vector<Step> steps_;
  bool letters_ = false;
};

}  // namespace fettle
