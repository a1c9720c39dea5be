// The tokenizer and chat template that a GGUF carries (keys tokenizer.*, ggml docs/gguf.md). Checks what can be checked without knowing how
// the tokenizer works: array lengths, token types and special ids; the rest is Tokenizer's. Where a file carries the tokenizer.json that
// its vocabulary was made from (tokenizer.huggingface.json), that counts: GGUF's keys name rules, it spells them out.
#include <cmath>

#include "store/store.h"

namespace fettle {
namespace {

// For errors: a folder's tokenizer is a file of its own.
bool from_folder(const Gguf& gguf) {
  std::error_code ignored;
  return fs::is_directory(gguf.path(), ignored);
}
std::string place_of(const Gguf& gguf) {
  if (!from_folder(gguf)) return gguf.path().string();
  std::error_code ignored;
  const bool rules = fs::exists(gguf.path() / "tokenizer.json", ignored);
  return (gguf.path() / (rules ? "tokenizer.json" : "tokenizer.model")).string();
}

// A special token's id; `otherwise` when the file does not say.
int special_id(const Gguf& gguf, const std::string& name, size_t n_tokens, int otherwise) {
  std::string key = "tokenizer.ggml." + name + "_token_id";
  auto id = gguf.integer(key);
  if (!id) return size_t(otherwise + 1) <= n_tokens ? otherwise : -1;
  if (*id == -1 || *id == int64_t(UINT32_MAX)) return -1;  // writers say "none" so
  if (*id < 0 || uint64_t(*id) >= n_tokens)
    throw refused(place_of(gguf), key + " is " + std::to_string(*id) + ", but there are " + std::to_string(n_tokens) + " tokens");
  return int(*id);
}

// More ids at which an answer is over, by the key that Ollama has for them.
std::vector<int> end_ids(const Gguf& gguf, size_t n_tokens) {
  std::vector<int> ids;
  for (const double id : gguf.numbers("tokenizer.ggml.eos_token_ids")) {
    if (!(id >= 0 && id < double(n_tokens)))
      throw refused(place_of(gguf), "tokenizer.ggml.eos_token_ids holds what is none of the " + std::to_string(n_tokens) + " tokens");
    ids.push_back(int(id));
  }
  return ids;
}

std::vector<TokenType> token_types(const Gguf& gguf, size_t n_tokens) {
  std::vector<TokenType> types;
  auto numbers = gguf.numbers("tokenizer.ggml.token_type");
  if (!numbers.empty() && numbers.size() != n_tokens)
    throw refused(place_of(gguf), std::to_string(numbers.size()) + " token types for " + std::to_string(n_tokens) + " tokens");
  types.reserve(numbers.size());
  for (double t : numbers) {
    // 0 (undefined) appears in old files for ordinary tokens
    if (!(t >= 0 && t <= 6)) throw refused(place_of(gguf), "token " + std::to_string(types.size()) + " has an unknown type");
    types.push_back(t == 0 ? TokenType::normal : TokenType(int(t)));
  }
  return types;
}

std::vector<double> scores(const Gguf& gguf, size_t n_tokens) {
  auto numbers = gguf.numbers("tokenizer.ggml.scores");
  if (!numbers.empty() && numbers.size() != n_tokens)
    throw refused(place_of(gguf), std::to_string(numbers.size()) + " token scores for " + std::to_string(n_tokens) + " tokens");
  for (size_t i = 0; i < numbers.size(); i++)
    if (std::isnan(numbers[i])) throw refused(place_of(gguf), "the score of token " + std::to_string(i) + " is not a number");
  return {numbers.begin(), numbers.end()};
}

}  // namespace

namespace {

// What llama.cpp takes where a file is silent about a special token.
struct Defaults {
  int bos = -1, eos = -1, unknown = -1;
  bool add_bos = false, add_eos = false, add_space_prefix = false;
};

Defaults defaults_of(const TokenizerSpec& spec) {
  if (spec.model == "llama") return {1, 2, 0, true, false, true};
  if (spec.model == "bert") return {101, 102, 100, true, true, false};
  if (spec.model == "t5") return {-1, 1, 2, false, true, false};
  return {.add_bos = begins_by_itself(spec.pre)};
}

// BERT's [CLS] and [SEP], which are bos and eos to us: [SEP] has a key of its own, in which ggml's spelling counts.
void read_bert_ids(const Gguf& gguf, TokenizerSpec& spec) {
  const size_t n = spec.tokens.size();
  if (!gguf.integer("tokenizer.ggml.bos_token_id")) spec.bos = special_id(gguf, "cls", n, spec.bos);
  spec.eos = special_id(gguf, "seperator", n, spec.eos);
  spec.add_eos = gguf.boolean("tokenizer.ggml.add_sep_token").value_or(spec.add_eos);
}

std::string bytes_of(const Gguf& gguf, const std::string& key) {
  std::string bytes;
  for (const double value : gguf.numbers(key)) {
    // llama.cpp writes them signed or unsigned
    if (!(value >= -128 && value <= 255)) throw refused(place_of(gguf), key + " holds what is no byte");
    bytes += static_cast<char>(static_cast<int>(value));
  }
  return bytes;
}

// Special tokens by GGUF's keys over what the tokenizer.json says of them.
TokenizerSpec from_json(const Gguf& gguf, const std::string& json) {
  TokenizerSpec spec = read_tokenizer_json(json, place_of(gguf) + (from_folder(gguf) ? "" : ": tokenizer.huggingface.json"));
  const std::vector<std::string> names = gguf.strings("tokenizer.ggml.tokens");
  for (size_t id = spec.tokens.size(); id < names.size(); ++id) {  // rows of the embedding that the tokenizer has no use for
    spec.tokens.push_back(names[id]);
    spec.types.push_back(TokenType::unused);
    if (!spec.scores.empty()) spec.scores.push_back(0);
  }
  const size_t n = spec.tokens.size();
  spec.bos = special_id(gguf, "bos", n, spec.bos);
  spec.eos = special_id(gguf, "eos", n, spec.eos);
  spec.unknown = special_id(gguf, "unknown", n, spec.unknown);
  spec.pad = special_id(gguf, "padding", n, spec.pad);
  spec.eot = special_id(gguf, "eot", n, spec.eot);
  spec.ends = end_ids(gguf, n);
  return spec;
}

}  // namespace

TokenizerSpec read_tokenizer_spec(const Gguf& gguf) {
  if (const auto json = gguf.string("tokenizer.huggingface.json")) return from_json(gguf, *json);
  TokenizerSpec spec;
  spec.place = place_of(gguf);
  auto model = gguf.string("tokenizer.ggml.model");
  if (!model) throw refused(spec.place, "the file carries no tokenizer (tokenizer.ggml.model is missing)");
  spec.model = *model;
  spec.pre = gguf.string("tokenizer.ggml.pre").value_or("");
  spec.tokens = gguf.strings("tokenizer.ggml.tokens");
  if (spec.tokens.empty()) throw refused(spec.place, "the tokenizer has no tokens");
  spec.merges = gguf.strings("tokenizer.ggml.merges");
  spec.types = token_types(gguf, spec.tokens.size());
  spec.scores = scores(gguf, spec.tokens.size());
  const Defaults defaults = defaults_of(spec);
  spec.bos = special_id(gguf, "bos", spec.tokens.size(), defaults.bos);
  spec.eos = special_id(gguf, "eos", spec.tokens.size(), defaults.eos);
  spec.unknown = special_id(gguf, "unknown", spec.tokens.size(), defaults.unknown);
  spec.pad = special_id(gguf, "padding", spec.tokens.size(), -1);
  spec.eot = special_id(gguf, "eot", spec.tokens.size(), -1);
  spec.ends = end_ids(gguf, spec.tokens.size());
  spec.add_bos = gguf.boolean("tokenizer.ggml.add_bos_token").value_or(defaults.add_bos);
  spec.add_eos = gguf.boolean("tokenizer.ggml.add_eos_token").value_or(defaults.add_eos);
  spec.add_space_prefix = gguf.boolean("tokenizer.ggml.add_space_prefix").value_or(defaults.add_space_prefix);
  if (spec.model == "bert") read_bert_ids(gguf, spec);
  if (spec.model == "t5") {
    spec.merge_spaces = gguf.boolean("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
    spec.charsmap = bytes_of(gguf, "tokenizer.ggml.precompiled_charsmap");
  }
  return spec;
}

std::optional<std::string> read_chat_template(const Gguf& gguf) { return gguf.string("tokenizer.chat_template"); }

}  // namespace fettle
