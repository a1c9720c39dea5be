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
  // Appends the ids of a text without special tokens; `at_start`: it opens the text or follows a special token, so that a space may be
  // added.
  void encode(std::string_view text, bool at_start, std::vector<int>& ids) const;
  int byte_id(uint8_t byte) const { return byte_ids_[byte]; }

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

// "<0xAB>" -> 0xAB, else -1
int byte_of_token_name(std::string_view name) noexcept;
// Token name -> text: U+2581 is a space.
void append_text_of_name(std::string& out, std::string_view name);

}  // namespace fettle
