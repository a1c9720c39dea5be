// Tokens that are cut out of a text before its model sees it: special ones, where the caller asks for them, and those that users defined.
// The leftmost is taken first, of those that start together the longest.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/function_ref.h"
#include "text/normalizer.h"
#include "text/prefix_tree.h"
#include "text/tokenizer.h"

namespace fettle {

class AddedTokens {
 public:
  // Throws Error{refused} for names that are too long. `normalizer` writes the names that are looked for in normalized text.
  AddedTokens(const TokenizerSpec& spec, const std::vector<AddedToken>& tokens, const Normalizer& normalizer);

  enum class Which {
    plain,  // none that is special
    all,
    as_written,  // all that are special, in the text as it was written even where they should be found in the normalized text
  };
  // Cuts the tokens out: text(begin, end) for what lies between them, never empty, token(id) for each.
  using Text = FunctionRef<void(size_t, size_t)>;
  using Token = FunctionRef<void(int)>;
  // In the text as it was written. Special tokens that touch a span of `quoted` (sorted, disjoint) are text.
  void cut_written(std::string_view all, Which which, std::span<const TextSpan> quoted, Text text, Token token) const;
  // In the normalized text.
  void cut_normalized(std::string_view all, Which which, Text text, Token token) const;
  // The name as the reference shows it: normalized where the token is found in normalized text.
  const std::string& shown_name(int id, const TokenizerSpec& spec) const;
  bool any_normalized() const { return any_normalized_; }

 private:
  // Three trees over written names: of tokens for plain texts, for all, and with the special ones that belong into the normalized text.
  // Two over normalized names.
  struct Trees {
    PrefixTree plain, all, as_written;
  };
  void cut(std::string_view all, const PrefixTree& tree, std::span<const TextSpan> quoted, Text text, Token token) const;
  std::vector<AddedToken> tokens_;
  std::vector<std::string> names_;         // normalized
  std::unordered_map<int, size_t> by_id_;  // into names_
  Trees written_, normalized_;
  bool any_normalized_ = false;
};

}  // namespace fettle
