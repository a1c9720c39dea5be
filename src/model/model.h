// Room model: a language model in memory: its configuration, its linears, its tokenizer, and the one forward that inference, training and
// calibration share. One file per architecture in arch/.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "model/hf.h"
#include "op/op.h"
#include "store/packed.h"
#include "store/store.h"
#include "text/text.h"

namespace fettle {

// ---- model files: a GGUF, the first file of a split set, or a Hugging Face folder (config.json and *.safetensors)

// Opens one as a GGUF, whichever it is: a folder's weights are views of its files under GGUF's names, and what GGUF keeps otherwise is made
// once. Error{refused} naming the file and the place: nothing of the kind, damaged, of an unknown family, or with a tensor that nobody
// knows.
Gguf open_model_file(const fs::path& path);
// What it consists of, in a fixed order. Error{refused}: as above, as far as names go.
std::vector<fs::path> model_files(const fs::path& path);
uint64_t model_bytes(const fs::path& path);
// SHA-256: of the one file; of several, over the lines "DIGEST  NAME" of each.
std::string model_digest(const fs::path& path);

// Writes a Hugging Face folder, which appears whole (what stood there goes). Error{refused}: an architecture without folders, tensors or
// settings that transformers has no name for, weights that the type cannot hold.
struct HfWriteOptions {
  const Format* type;                                           // of all tensors that are not packed: F32, F16 or BF16
  uint64_t shard_bytes = 5e9;                                   // weights in one file at most, but for a tensor that is larger
  std::function<void(uint64_t done, uint64_t total)> progress;  // source bytes
  // How the weights of the blocks' linears are packed (store/packed.h); nullptr: they are not.
  const WeightPacker* packer = nullptr;
  // A linear's weight, of GGUF's name, as blocks of packer->format(), where that is not nullptr.
  std::function<std::vector<std::byte>(const NamedTensor& weight)> encode;
};
struct HfWritten {
  uint64_t bytes = 0;  // of weights
  int tensors = 0;
};
HfWritten write_hf(const Gguf& file, const fs::path& folder, const HfWriteOptions& options);
// What that would write, found without reading a weight; refuses what it refuses before it reads one.
HfWritten plan_hf(const Gguf& file, const HfWriteOptions& options);
// What a folder of this model is written in where nobody says: its own floats, else F16.
const Format* hf_format(const Gguf& file);

// How the states of a text's tokens become its embedding: their mean, the first one's, the last one's.
enum class Pooling { mean, cls, last };

struct Config {
  std::string architecture;  // GGUF's general.architecture
  int layers = 0, d_model = 0, heads = 0, kv_heads = 0, head_dim = 0, d_ff = 0, vocabulary = 0, context = 0;
  float norm_epsilon = 1e-5f;
  float rope_base = 10000;
  int rope_dims = 0;
  int experts = 0, experts_used = 0;  // of a block, where its feed-forward has experts; d_ff then is what a row comes through
  bool tied = false;
  bool causal = true;  // false: an encoder, whose tokens see what comes later; it has no head and writes no text
  Pooling pooling = Pooling::last;
};

// An architecture's layers and its forward. hidden() returns the final normed states of all rows of the batch.
class Network {
 public:
  virtual ~Network() = default;
  virtual Var* hidden(Run& run, const Batch& batch) = 0;
  // Every linear inside the blocks, in file order (not the embedding or head).
  virtual std::vector<Linear*> linears() = 0;
};

class Model {
 public:
  // Opens a model file. Throws Error{refused}: not a model, unknown architecture, missing or misshapen tensors, impossible numbers, vectors
  // (norms, biases) that are not finite: matrices are too large to look at.
  static std::shared_ptr<Model> open(const fs::path& path);

  Config config;
  std::unique_ptr<Gguf> file;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // nullptr: the file has none
  std::set<std::string> loaded;                 // names of the file's tensors that are part of it
  Linear embedding, head;                       // tied: head shares the embedding's bytes; an encoder has no head
  std::unique_ptr<Network> network;

  // All block linears, in file order.
  std::vector<Linear*> linears() { return network->linears(); }
  // Whether ids mean the same to both.
  bool same_tokens(const Model& other) const;
  Linear* find_linear(const std::string& name);
  int64_t parameters() const;
  // The share of all rows that a linear multiplies: 1, but for experts.
  double share_of_rows(const Linear& linear) const;
  KvCache::Shape kv_shape() const { return {config.layers, config.kv_heads, config.head_dim}; }
  ChatFormat chat_format() const;  // Error{refused} when there is no chat template

  // The final normed states of all rows. Activations live in run.arena.
  Var* hidden(Run& run, const Batch& batch);
  // Error{refused}: an encoder.
  void require_text() const;
  // Logits of batch.wanted rows: (wanted, vocabulary).
  Var* logits(Run& run, const Batch& batch);
  // Builds the panels of every linear now instead of at first use. Error{refused}: they take more than `memory` bytes.
  void prepare(Pool& pool, Precision precision = Precision::serving, uint64_t memory = free_memory());

  // Why the model computed numbers that are not finite: the tensor that holds such, where one does. Reads all weights.
  Error why_not_finite() const;

  // Error{refused}: the adapter is for another architecture, for linears that the model has not, or of other shapes.
  void check_lora(const LoraFile& lora, const std::string& place) const;
  // Attaches an adapter for inference or training; errors as check_lora's. detach_lora removes it.
  void attach_lora(const LoraFile& lora, const std::string& place);
  void detach_lora();
  LoraFile lora(float alpha) const;  // what is attached now
  // What an adapter's PEFT folder leaves to this model: names and the order of rows. An architecture without folders has no such names.
  LoraBase lora_base() const;
};

// An architecture: how to recognise and build it. Registered by being a file in arch/.
struct Architecture {
  const char* name;  // general.architecture
  // Makes the network on the model's file, whose common numbers are read.
  std::unique_ptr<Network> (*build)(Model& model);
  const HfFamily* hf = nullptr;  // its folders on Hugging Face; nullptr: none are read
};
std::span<const Architecture* const> architectures();
// By GGUF's name; nullptr: none that fettle knows.
const Architecture* architecture_named(std::string_view name);
// general.architecture, known or not; Error{refused}: the file is no language model at all.
std::string model_architecture(const Gguf& file);

// What llama.cpp does with a GGUF of this model that the model's makers do not, a sentence each; none of an architecture that is not known.
std::vector<std::string> llama_cpp_differences(const Gguf& file);

// An adapter of this model in either form (read_lora).
LoraFile read_adapter(const fs::path& path, const Model& model);

// The refusal of such weights; place: the file and its tensor.
Error not_finite(const std::string& place);

// Typed access for architecture files: tensor `name` of the given shape, or Error{refused}.
// A file's tensors become parts of the model, and are noted: one that nobody loads is an error.
Linear load_linear(Model& model, const std::string& name, int out, int in);
const float* load_vector(Model& model, const std::string& name, int n);  // F32, finite

}  // namespace fettle
