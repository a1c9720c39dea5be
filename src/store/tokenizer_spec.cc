// The tokenizer and chat template that a GGUF carries (keys tokenizer.*, ggml docs/gguf.md). Checks what can be checked without knowing how
// the tokenizer works: array lengths, token types and special ids; the rest is Tokenizer's. Does not handle tokenizer.json.
#include <cmath>

#include "store/store.h"

namespace fettle {
namespace {

// A special token's id; `otherwise` when the file does not say.
int special_id(const Gguf& gguf, const std::string& name, size_t n_tokens, int otherwise) {
  std::string key = "tokenizer.ggml." + name + "_token_id";
  auto id = gguf.integer(key);
  if (!id) return size_t(otherwise + 1) <= n_tokens ? otherwise : -1;
  if (*id == -1 || *id == int64_t(UINT32_MAX)) return -1;  // writers say "none" so
  if (*id < 0 || uint64_t(*id) >= n_tokens)
    throw refused(gguf.path().string(), key + " is " + std::to_string(*id) + ", but there are " + std::to_string(n_tokens) + " tokens");
  return int(*id);
}

std::vector<TokenType> token_types(const Gguf& gguf, size_t n_tokens) {
  std::vector<TokenType> types;
  auto numbers = gguf.numbers("tokenizer.ggml.token_type");
  if (!numbers.empty() && numbers.size() != n_tokens)
    throw refused(gguf.path().string(), std::to_string(numbers.size()) + " token types for " + std::to_string(n_tokens) + " tokens");
  types.reserve(numbers.size());
  for (double t : numbers) {
    // 0 (undefined) appears in old files for ordinary tokens
    if (!(t >= 0 && t <= 6)) throw refused(gguf.path().string(), "token " + std::to_string(types.size()) + " has an unknown type");
    types.push_back(t == 0 ? TokenType::normal : TokenType(int(t)));
  }
  return types;
}

std::vector<float> scores(const Gguf& gguf, size_t n_tokens) {
  auto numbers = gguf.numbers("tokenizer.ggml.scores");
  if (!numbers.empty() && numbers.size() != n_tokens)
    throw refused(gguf.path().string(), std::to_string(numbers.size()) + " token scores for " + std::to_string(n_tokens) + " tokens");
  for (size_t i = 0; i < numbers.size(); i++)
    if (std::isnan(numbers[i])) throw refused(gguf.path().string(), "the score of token " + std::to_string(i) + " is not a number");
  return {numbers.begin(), numbers.end()};
}

}  // namespace

TokenizerSpec read_tokenizer_spec(const Gguf& gguf) {
  TokenizerSpec spec;
  spec.place = gguf.path().string();
  auto model = gguf.string("tokenizer.ggml.model");
  if (!model) throw refused(spec.place, "the file carries no tokenizer (tokenizer.ggml.model is missing)");
  spec.model = *model;
  spec.pre = gguf.string("tokenizer.ggml.pre").value_or("");
  spec.tokens = gguf.strings("tokenizer.ggml.tokens");
  if (spec.tokens.empty()) throw refused(spec.place, "the tokenizer has no tokens");
  spec.merges = gguf.strings("tokenizer.ggml.merges");
  spec.types = token_types(gguf, spec.tokens.size());
  spec.scores = scores(gguf, spec.tokens.size());
  // what llama.cpp takes where a file is silent: SentencePiece's ids, and begin tokens for it and for Llama 3
  bool sentencepiece = spec.model == "llama";
  spec.bos = special_id(gguf, "bos", spec.tokens.size(), sentencepiece ? 1 : -1);
  spec.eos = special_id(gguf, "eos", spec.tokens.size(), sentencepiece ? 2 : -1);
  spec.unknown = special_id(gguf, "unknown", spec.tokens.size(), sentencepiece ? 0 : -1);
  spec.pad = special_id(gguf, "padding", spec.tokens.size(), -1);
  spec.eot = special_id(gguf, "eot", spec.tokens.size(), -1);
  for (double id : gguf.numbers("tokenizer.ggml.eos_token_ids"))                                          // Ollama's key
    spec.ends.push_back(id >= 0 && id < double(spec.tokens.size()) ? int(id) : int(spec.tokens.size()));  // Tokenizer refuses the latter
  spec.add_bos = gguf.boolean("tokenizer.ggml.add_bos_token").value_or(sentencepiece || spec.pre == "llama-bpe" || spec.pre == "llama3");
  spec.add_eos = gguf.boolean("tokenizer.ggml.add_eos_token").value_or(false);
  spec.add_space_prefix = gguf.boolean("tokenizer.ggml.add_space_prefix").value_or(sentencepiece);
  return spec;
}

std::optional<std::string> read_chat_template(const Gguf& gguf) { return gguf.string("tokenizer.chat_template"); }

}  // namespace fettle
