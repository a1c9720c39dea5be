// Unigram language models (T5, XLM-R, ALBERT): of all ways to cut a piece into tokens, the one whose scores add up highest.
#pragma once
#include <string_view>
#include <vector>

#include "text/prefix_tree.h"
#include "text/token_rules.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace fettle {

class UnigramEncoder {
 public:
  // The references must outlive the encoder. Throws Error{refused} when scores are missing or no number, when a name is too long, or when
  // text could not be encoded for want of an unknown token.
  UnigramEncoder(const ModelRules& rules, const TokenizerSpec& spec, const TokenTable& table, const std::vector<bool>& writable);
  void encode(std::string_view piece, std::vector<int>& ids) const;

 private:
  void push_unknown(std::string_view text, std::vector<int>& ids) const;
  const ModelRules& rules_;
  const TokenizerSpec& spec_;
  PrefixTree tree_;
  double unknown_score_ = 0;
  int byte_ids_[256];
};

}  // namespace fettle
