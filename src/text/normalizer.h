// Normalizers: what a tokenizer does to a text before cutting it up.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "text/charsmap.h"
#include "text/regex.h"
#include "text/token_rules.h"

namespace fettle {

class Normalizer {
 public:
  // Error{refused} naming `place` for expressions and character maps that cannot be read.
  Normalizer(std::vector<NormalStep> steps, const std::string& place);
  bool empty() const { return steps_.empty(); }
  // Changes the text in place; bytes that are no UTF-8 stay. Says whether what the text began with is still there in some form.
  // Error{refused}: the text would become many times as long, or an expression takes too long on it.
  bool apply(std::string& text) const;

 private:
  struct Step {
    NormalStep rule;
    std::optional<Matcher> matcher;
    std::optional<CharsMap> map;
  };
  bool apply(const Step& step, std::string& text, size_t most) const;
  std::string place_;
  std::vector<Step> steps_;
};

}  // namespace fettle
