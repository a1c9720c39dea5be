// SentencePiece BPE (Llama 1 and 2, Mistral, Phi-3, Gemma): the adjacent pair whose joined text is the token of highest score merges first.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace fettle {

class SentencePieceEncoder {
 public:
  // Both references must outlive the encoder. Throws Error{refused} when scores are missing or no number, or when text could not be
  // encoded for want of byte tokens and of an unknown token.
  SentencePieceEncoder(const TokenizerSpec& spec, const TokenTable& table);
  // Appends the ids of a text without special tokens; a space may be put in front, since it opens the input or follows a special token.
  void encode(std::string_view text, std::vector<int>& ids) const;

 private:
  struct Symbol;
  int find_text(std::string_view text) const noexcept;
  void merge(std::string_view text, std::vector<Symbol>& symbols) const;
  void push_bytes(std::string_view text, std::vector<int>& ids) const;

  const TokenizerSpec& spec_;
  const TokenTable& table_;
  size_t longest_ = 0;  // bytes of the longest token
  int byte_ids_[256];
};

}  // namespace fettle
