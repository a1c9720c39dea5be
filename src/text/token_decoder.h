// From tokens' names back to text: a chain of steps over the names of an answer, as Hugging Face's decoders are. Bytes stay bytes; where
// the reference writes U+FFFD for what is no UTF-8, the caller decides what to show.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"
#include "text/token_rules.h"

namespace fettle {

class TokenDecoder {
 public:
  // Error{refused} naming `place` for expressions that cannot be read.
  TokenDecoder(std::vector<DecodeStep> steps, const std::string& place);
  // All tokens of a text. Consumes `names`. Error{refused}: the text would become many times as long as they are, or an expression takes
  // too long.
  std::string decode(std::vector<std::string> names) const;
  // One token amid others: what stands only at a text's start or end is not applied. Errors as decode's.
  void piece(std::string& name) const;

 private:
  struct Step {
    DecodeStep rule;
    std::optional<Matcher> matcher;
  };
  void apply(const Step& step, std::vector<std::string>& names, size_t most) const;
  static void each(const Step& step, std::string& name, bool first, bool last, size_t most);
  std::vector<Step> steps_;
  std::string place_;
};

}  // namespace fettle
