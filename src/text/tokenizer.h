// Tokenizers: text <-> ids, exactly as the model was trained. What a tokenizer is comes from a GGUF (store/) or from a tokenizer.json.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

enum class TokenType : int8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct TokenRules;  // private to text

// What a model file says about its tokenizer, in GGUF's terms; untrusted until Tokenizer's constructor has checked it.
struct TokenizerSpec {
  std::string place;  // for errors: the file
  std::string model;  // "gpt2" (byte-level BPE), "llama" (SentencePiece BPE), "bert" (WordPiece), "t5" (unigram); "" where GGUF has no word
  std::string pre;    // pre-tokenizer: "gpt-2", "smollm", "llama-bpe", "qwen2", ...; "" where GGUF has no word
  std::vector<std::string> tokens;
  std::vector<double> scores;       // SentencePiece, unigram
  std::vector<TokenType> types;     // empty: all normal
  std::vector<std::string> merges;  // "a b"; where a token holds a space itself, a zero byte stands between the two
  int bos = -1, eos = -1, unknown = -1, pad = -1, eot = -1;
  std::vector<int> ends;  // more ids at which an answer is over
  bool add_bos = false, add_eos = false, add_space_prefix = true;
  bool merge_spaces = false;  // unigram: runs of spaces count as one
  std::string charsmap;       // unigram: SentencePiece's compiled character map
  // A tokenizer.json's own rules, which then count instead of `model` and `pre`.
  std::shared_ptr<const TokenRules> rules;
};

// Whether files with this tokenizer.ggml.pre that do not say otherwise begin texts with their begin token.
bool begins_by_itself(std::string_view pre);

// How byte-level BPE of that name cuts texts up: by one regex after another, as tokenizer.json writes them (Oniguruma's syntax); "\\p{N}"
// alone is every number apart. nullopt: the name is not known, or means no bytes.
struct PreTokenizerRegexes {
  std::vector<std::string> regexes;
  bool ignore_merges = false;  // a piece that is a token is not merged up
};
std::optional<PreTokenizerRegexes> pre_tokenizer_regexes(std::string_view pre);
// Whether GGUF's keys say all that the rules of a tokenizer.json do, so that a GGUF needs no copy of it.
bool gguf_says_all(const TokenizerSpec& spec);

// Hugging Face's tokenizer.json (`place` names it in errors). bos and eos are those that its post-processor puts around a text; others are
// said elsewhere (config.json, tokenizer_config.json, generation_config.json) and may be set by the caller. Throws Error{refused} for what
// is malformed, and for components that are not known.
TokenizerSpec read_tokenizer_json(std::string_view json, const std::string& place);

// Bytes [begin, end) of a text.
struct TextSpan {
  size_t begin = 0, end = 0;
};

class Tokenizer {
 public:
  // Throws Error{refused} naming spec.place and what is wrong (unknown model or pre-tokenizer, ids out of range, merges of unknown
  // tokens).
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
