// Tokenizers: text <-> ids, exactly as the model was trained. Byte-level BPE (gpt2, smollm, llama3, qwen2 pre-tokenizers) and
// SentencePiece BPE (llama-spm, phi-3) so far; the vocabulary comes from a GGUF (store/).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

enum class TokenType : int8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

// What a model file says about its tokenizer; untrusted until Tokenizer's constructor has checked it.
struct TokenizerSpec {
  std::string place;  // for errors: the file
  std::string model;  // "gpt2" (byte-level BPE), "llama" (SentencePiece BPE)
  std::string pre;    // pre-tokenizer: "gpt-2", "smollm", "llama-bpe", "qwen2", ...
  std::vector<std::string> tokens;
  std::vector<float> scores;        // SentencePiece
  std::vector<TokenType> types;     // empty: all normal
  std::vector<std::string> merges;  // "a b"
  int bos = -1, eos = -1, unknown = -1, pad = -1, eot = -1;
  std::vector<int> ends;  // more ids at which an answer is over
  bool add_bos = false, add_eos = false, add_space_prefix = true;
};

// Bytes [begin, end) of a text.
struct TextSpan {
  size_t begin = 0, end = 0;
};

class Tokenizer {
 public:
  // Throws Error{refused} naming spec.place and what is wrong (unknown model or pre-tokenizer, ids out of range, merges of unknown tokens).
  explicit Tokenizer(TokenizerSpec spec);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  // Plain text -> ids: special tokens inside the text are text. Invalid UTF-8 is encoded byte by byte.
  std::vector<int> encode(std::string_view text) const;
  // Text whose special tokens count (a rendered chat template). begin_end: the model's own begin/end tokens are added as its file asks.
  std::vector<int> encode_special(std::string_view text, bool begin_end) const;
  // The same without begin and end tokens, for a text made of parts of which some are not to be trusted: a special token whose spelling
  // touches a span of `quoted` (sorted, disjoint) is text. The rest of the text is cut up as if nothing were quoted.
  std::vector<int> encode_chat(std::string_view text, std::span<const TextSpan> quoted) const;
  // ids -> bytes. Control tokens are skipped unless `control`.
  std::string decode(std::span<const int> ids, bool control = false) const;
  // The bytes of one token ("" for control tokens); concatenating pieces gives decode() (but for SentencePiece's leading space).
  std::string_view piece(int id) const;
  // The token's name in the vocabulary ("<|im_end|>").
  const std::string& name(int id) const;
  int find(std::string_view name) const;  // -1 when absent
  int size() const;
  bool is_control(int id) const;
  // Whether generation stops at this id: eos, eot, and tokens known by name as ends of turn (<|im_end|>, <|eot_id|>, <end_of_turn>, ...).
  bool is_end(int id) const;
  const TokenizerSpec& spec() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// How many ids two rows begin with alike.
int common_prefix(std::span<const int> a, std::span<const int> b);

// Holds back incomplete UTF-8 so that a stream never shows half a character.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);  // what is complete now
  std::string finish();                      // the rest, broken bytes as U+FFFD

 private:
  std::string pending_;
};

}  // namespace fettle
