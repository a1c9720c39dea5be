// Byte pair encoding: a piece's symbols are merged by rank, the lowest first. Symbols are bytes (GPT-2 and its descendants) or characters.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/token_rules.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace fettle {

// Byte-level vocabularies write bytes as printable characters: those of Latin-1 stand for themselves, the other 68 are U+0100 and up.
uint32_t letter_of_byte(uint8_t byte) noexcept;
int byte_of_letter(uint32_t letter) noexcept;  // -1 when the character stands for no byte
// Token name -> the bytes that it stands for; characters that stand for no byte are kept as they are.
void append_bytes_of_name(std::string& out, std::string_view name);

class BytePairEncoder {
 public:
  // The references must outlive the encoder. Throws Error{refused} on merges of unknown tokens.
  BytePairEncoder(const ModelRules& rules, const TokenizerSpec& spec, const TokenTable& table, const std::vector<bool>& writable);
  // Appends the ids of one piece. What the vocabulary lacks becomes byte tokens or the unknown token where the rules say so, and is left
  // out otherwise, as the reference does.
  void encode(std::string_view piece, std::vector<int>& ids) const;

 private:
  struct Work;
  int whole(std::string_view piece, std::string& name) const;
  void symbols(std::string_view piece, Work& work) const;
  void symbols_of_bytes(std::string_view piece, Work& work) const;
  bool add_byte_tokens(std::string_view text, std::vector<int>& ids) const;
  void merge_short(Work& work) const;
  void merge_long(Work& work) const;
  void add_merge(const std::string& merge, int rank, std::string& joined);

  const ModelRules& rules_;
  const TokenizerSpec& spec_;
  const TokenTable& table_;
  const std::vector<bool>& writable_;
  MergeTable merges_;
  int letter_ids_[256];  // of the tokens that are one byte's letter
  int byte_ids_[256];    // of <0x00> to <0xFF>
};

}  // namespace fettle
