// Byte-level BPE (GPT-2 and its descendants): bytes are letters, merges are ranked, the lowest rank merges first.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace fettle {

// Byte-level BPE writes bytes as printable characters: those of Latin-1 stand for themselves, the other 68 are U+0100 and up.
uint32_t letter_of_byte(uint8_t byte) noexcept;
int byte_of_letter(uint32_t letter) noexcept;  // -1 when the character stands for no byte
// Token name -> the bytes that it stands for; characters that stand for no byte are kept as they are.
void append_bytes_of_name(std::string& out, std::string_view name);

class BytePairEncoder {
 public:
  // Both references must outlive the encoder. Throws Error{refused} on an unknown pre-tokenizer and on merges of unknown tokens.
  BytePairEncoder(const TokenizerSpec& spec, const TokenTable& table);
  // Appends the ids of a text without special tokens. Bytes that the vocabulary lacks are left out, as the reference does.
  void encode(std::string_view text, std::vector<int>& ids) const;

 private:
  struct Work;
  void encode_pre_token(std::string_view text, Work& work, std::vector<int>& ids) const;
  void merge_short(Work& work) const;
  void merge_long(Work& work) const;
  void add_merge(const std::string& merge, int rank, std::string& joined);

  const TokenizerSpec& spec_;
  const TokenTable& table_;
  PreTokenizer pre_;
  MergeTable merges_;
  int byte_ids_[256];
};

}  // namespace fettle
