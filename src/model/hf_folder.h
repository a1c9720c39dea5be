// What reading and writing a folder as Hugging Face lays it out share. Private to model.
#pragma once
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/model.h"

namespace fettle {

// The most that a configuration and a tokenizer may take.
constexpr size_t kMaxHfConfig = 4u << 20, kMaxHfTokenizer = 64u << 20;

// A JSON object in `folder`; nullopt when there is no such file.
std::optional<nlohmann::json> hf_json(const fs::path& folder, const char* name, size_t limit = kMaxHfConfig);

// The architecture of config.json's model_type. Error{refused}: none that fettle knows.
const Architecture& hf_architecture(const nlohmann::json& config, const std::string& place);

// Sets GGUF's keys from config.json: the common ones, then the family's own. Errors have no place yet.
void put_hf_config(const nlohmann::json& config, const Architecture& architecture, GgufWriter& out);
// The tensors that GGUF has for what is numbers in config.json: factors of rotary frequencies.
struct MadeTensor {
  std::string name;
  std::vector<float> values;
};
std::vector<MadeTensor> hf_rope_tensors(const nlohmann::json& config);

// Names of modules, of this family and common ones: "blk.3.attn_q" <-> "model.layers.3.self_attn.q_proj".
class HfNames {
 public:
  explicit HfNames(const HfFamily& family);
  std::optional<std::string> gguf(std::string_view hf) const;  // nullopt: GGUF has no name for it
  std::optional<std::string> hf(std::string_view gguf) const;

 private:
  std::map<std::string, const char*, std::less<>> gguf_, hf_;  // patterns with {} for numbers
};

// config.json's word for what follows "ARCH." in one of GGUF's keys: "block_count" -> "num_hidden_layers"; nullptr: it has none.
const char* hf_key(std::string_view key);

// An error about a model that was opened from a folder, in the folder's words: its own names of tensors, keys and files, for nobody who has
// a folder has seen GGUF's.
Error in_folder_words(const Error& error, const fs::path& folder, const Architecture& architecture);

// Sets the keys tokenizer.* from the folder's tokenizer. vocabulary: rows of the embedding, which GGUF wants to have a name each.
void put_hf_tokenizer(const fs::path& folder, const nlohmann::json& config, int64_t vocabulary, GgufWriter& out);

// The vocabulary of a tokenizer.model, at most so many tokens. Errors have no place yet.
TokenizerSpec read_sentencepiece(std::string_view bytes, int64_t vocabulary);

// Sets the keys tokenizer.ggml.* that read_tokenizer_spec reads.
void put_tokenizer(const TokenizerSpec& spec, GgufWriter& out);

// config.json of a GGUF whose architecture has folders; dtype: "float32". Error{refused}: what transformers has no word for.
nlohmann::json hf_config(const Gguf& file, const Architecture& architecture, const std::string& dtype);
// tokenizer.json, tokenizer_config.json and generation_config.json.
void write_hf_tokenizer(const Gguf& file, const fs::path& folder);

// How a folder of sentence-transformers makes embeddings (modules.json), as GGUF's pooling_type; nothing where it does not say.
// Error{refused}: in a way that fettle does not know.
void put_hf_pooling(const fs::path& folder, const Architecture& architecture, GgufWriter& out);
// The same files, where the GGUF says how.
void write_hf_pooling(const Gguf& file, const fs::path& folder);

// `path` is a folder. Error{refused}: no model that fettle reads.
Gguf open_hf_folder(const fs::path& folder);

}  // namespace fettle
