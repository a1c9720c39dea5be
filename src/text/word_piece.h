// Vocabularies of words: WordPiece (BERT), the longest token first; and whole words.
#pragma once
#include <string_view>
#include <vector>

#include "text/prefix_tree.h"
#include "text/token_rules.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace fettle {

class WordEncoder {
 public:
  // The references must outlive the encoder. Throws Error{refused} when there is no unknown token or when a name is too long.
  WordEncoder(const ModelRules& rules, const TokenizerSpec& spec, const TokenTable& table, const std::vector<bool>& writable);
  void encode(std::string_view word, std::vector<int>& ids) const;

 private:
  const ModelRules& rules_;
  const TokenizerSpec& spec_;
  const TokenTable& table_;
  const std::vector<bool>& writable_;
  PrefixTree tree_;
  uint32_t first_ = PrefixTree::kRoot, inside_ = PrefixTree::kRoot;  // where a word's first and further tokens begin; kNone: nowhere
};

}  // namespace fettle
