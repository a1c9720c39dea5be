// A folder as Hugging Face lays it out, opened as the GGUF that it would be converted to: metadata from config.json and the tokenizer's
// files, tensors under GGUF's names. Matrices are views of the mapped safetensors files; what differs in GGUF is made once: q and k of
// families whose rows it orders otherwise, and norms and biases, which it keeps in F32. A tensor that nobody knows is an error: a model
// that runs without a part of its weights answers nonsense. Source: llama.cpp's convert_hf_to_gguf.
#include "model/hf_folder.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "format/format.h"
#include "store/packed.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

// Tables that can be computed, which old versions of transformers saved all the same.
bool is_computed(std::string_view name) {
  return name.find(".rotary_emb.") != name.npos || name.ends_with("embeddings.position_ids") || name.ends_with(".attn.masked_bias") ||
         name.ends_with(".attn.bias");
}

class FolderReader {
 public:
  FolderReader(const fs::path& folder, const Json& config, const Architecture& architecture)
      : config_(config), architecture_(architecture), family_(*architecture.hf), names_(family_) {
    parts_.path = folder;
    heads_ = hf_integer(config, "num_attention_heads").value_or(1);
    kv_heads_ = hf_integer(config, "num_key_value_heads").value_or(heads_);
  }

  Gguf open() {
    std::vector<Safetensors> files = open_safetensors(parts_.path);
    const std::optional<PackedWeights> packed = packed_weights(files);
    const auto passed_over = [&](const std::string& name) { return is_computed(name) || (packed && packed->owns(name)); };
    for (const Safetensors& file : files)
      for (const NamedTensor& t : file.tensors())
        if (!passed_over(t.name)) take(t.name, t.tensor);
    for (const Safetensors& file : files)
      for (const Safetensors::Unusable& t : file.unusable())
        if (!passed_over(t.name)) throw refused(place(t.name), t.why);
    if (packed)
      for (const std::string& module : packed->modules()) take_packed(module, packed->weight(module));
    drop_tied_head();
    for (MadeTensor& made : hf_rope_tensors(config_)) {
      const auto bytes = std::as_bytes(std::span(made.values));
      own(made.name, find_format("F32"), {int64_t(made.values.size())}, {bytes.begin(), bytes.end()});
    }
    sort();
    for (Safetensors& file : files) parts_.files.push_back(std::move(file).take_file());
    GgufWriter head;
    head.set_string("general.architecture", architecture_.name);
    head.set_string("general.type", "model");
    head.set_string("general.name", fs::weakly_canonical(parts_.path).filename().string());
    put_hf_config(config_, architecture_, head);
    put_hf_pooling(parts_.path, architecture_, head);
    if (const int type = usual_file_type(); type >= 0) head.set_integer("general.file_type", uint32_t(type));
    put_hf_tokenizer(parts_.path, config_, embedding_rows(), head);
    parts_.head = head.head();
    return Gguf(std::move(parts_));
  }

 private:
  std::string place(const std::string& tensor) const { return parts_.path.string() + ": tensor " + printable(tensor); }

  void own(const std::string& name, const Format* format, Shape shape, std::vector<std::byte> bytes) {
    parts_.made.push_back(std::move(bytes));
    parts_.tensors.push_back({name, {format, shape, parts_.made.back()}});
  }

  // What config.json says of packed weights, or the file of its own that older folders have for it; nullopt: they are not packed.
  std::optional<PackedWeights> packed_weights(const std::vector<Safetensors>& files) const {
    std::optional<Json> config;
    if (const auto found = config_.find("quantization_config"); found != config_.end() && !found->is_null()) config = *found;
    for (const char* name : {"quantize_config.json", "quant_config.json"})
      if (!config) config = hf_json(parts_.path, name);
    if (!config) return {};
    std::map<std::string, const RawTensor*> tensors;
    for (const Safetensors& file : files)
      for (const RawTensor& t : file.raw()) tensors[t.name] = &t;
    return std::optional<PackedWeights>(std::in_place, *config, tensors, parts_.path.string());
  }

  // The weight of a linear that the folder holds packed.
  void take_packed(const std::string& name, OwnedTensor weight) {
    const auto module = names_.gguf(name);
    if (!module) throw no_part(name);
    const int64_t heads = heads_of(*module);
    if (heads > 0) weight.bytes = interleaved(name, weight.tensor, heads);
    own(*module + ".weight", weight.tensor.format, weight.tensor.shape, std::move(weight.bytes));
  }

  Error no_part(const std::string& name) const {
    return refused(place(name), std::string("is no part of a ") + architecture_.name + " as fettle runs it",
                   "running the model without it would give wrong answers");
  }

  // Of q and k of families whose rows GGUF orders otherwise; else 0.
  int64_t heads_of(const std::string& module) const {
    return !family_.permuted ? 0 : module.ends_with(".attn_q") ? heads_ : module.ends_with(".attn_k") ? kv_heads_ : 0;
  }

  // One tensor of the folder by its name there.
  void take(const std::string& name, const Tensor& tensor) {
    if (std::ranges::any_of(family_.unused, [&](const char* u) { return name.starts_with(u); })) return;
    const size_t dot = name.rfind('.');
    std::string kind = dot == name.npos ? "" : name.substr(dot);
    if (kind == ".gamma" || kind == ".beta") kind = kind == ".gamma" ? ".weight" : ".bias";  // TensorFlow's words
    const auto module = kind == ".weight" || kind == ".bias" ? names_.gguf(name.substr(0, dot)) : std::nullopt;
    if (!module || tensor.shape.n == 0) throw no_part(name);
    const std::string as = *module + kind;
    const int64_t heads = heads_of(*module);
    const float shift = as.ends_with("norm.weight") ? family_.norm_shift : 0;
    if (tensor.shape.n == 1 || as == "position_embd.weight" || as == "token_types.weight")  // which GGUF keeps in F32
      take_vector(name, as, tensor, shift, heads);
    else if (heads > 0)
      own(as, tensor.format, tensor.shape, interleaved(name, tensor, heads));
    else if (tensor.format->group == 0 && uintptr_t(tensor.bytes.data()) % size_t(tensor.format->block_bytes) != 0)
      own(as, tensor.format, tensor.shape, {tensor.bytes.begin(), tensor.bytes.end()});  // an old file whose data begin anywhere
    else
      parts_.tensors.push_back({as, tensor});
  }

  // Rows from Hugging Face's order of each head into GGUF's.
  std::vector<std::byte> interleaved(const std::string& name, const Tensor& t, int64_t heads) const {
    const int64_t rows = t.shape.n == 1 ? t.shape.count() : t.shape.rows();
    if (rows % (2 * heads))
      throw refused(place(name), "has " + std::to_string(rows) + " rows, which " + std::to_string(heads) + " heads do not divide");
    const size_t row_bytes = t.bytes.size() / size_t(rows);
    std::vector<std::byte> bytes(t.bytes.size());
    for (int64_t r = 0; r < rows; r++)
      std::memcpy(bytes.data() + size_t(r) * row_bytes, t.bytes.data() + size_t(half_split_row(r, rows / heads)) * row_bytes, row_bytes);
    return bytes;
  }

  void take_vector(const std::string& name, const std::string& as, const Tensor& t, float shift, int64_t heads) {
    std::vector<float> values(size_t(t.shape.count()));
    t.format->decode(t.bytes.data(), values.data(), t.shape.count());
    for (float& v : values) v += shift;
    const auto view = std::as_bytes(std::span(values));
    std::vector<std::byte> bytes(view.begin(), view.end());
    const Format* f32 = find_format("F32");
    if (heads > 0) bytes = interleaved(name, {f32, t.shape, bytes}, heads);
    own(as, f32, t.shape, std::move(bytes));
  }

  const Tensor* find(std::string_view name) const {
    for (const NamedTensor& t : parts_.tensors)
      if (t.name == name) return &t.tensor;
    return nullptr;
  }

  // Where the embedding is the head too, some files hold it twice.
  void drop_tied_head() {
    if (family_.encoder) return;
    const Tensor *head = find("output.weight"), *table = find("token_embd.weight");
    const auto tied = hf_boolean(config_, "tie_word_embeddings");
    if (!head && tied && !*tied)
      throw refused(parts_.path.string(), "lacks lm_head.weight, though tie_word_embeddings is false", "fetch the folder again");
    if (!head || !table) return;
    if (tied.value_or(head->format == table->format && std::ranges::equal(head->bytes, table->bytes)))
      std::erase_if(parts_.tensors, [](const NamedTensor& t) { return t.name == "output.weight"; });
  }

  int64_t embedding_rows() const {
    const Tensor* table = find("token_embd.weight");
    if (!table || table->shape.n != 2)
      throw refused(parts_.path.string(), "has no embedding (model.embed_tokens.weight) of two dimensions");
    if (table->shape.rows() > 1 << 24) throw refused(place("model.embed_tokens.weight"), "has more than 2^24 rows");
    return table->shape.rows();
  }

  // The order that GGUF files have: embedding, blocks by number, what follows them.
  void sort() {
    const auto rank = [](const std::string& name) {
      if (!name.starts_with("blk.")) return name.starts_with("token_embd") ? -1 : INT32_MAX;
      return std::atoi(name.c_str() + 4);
    };
    std::stable_sort(parts_.tensors.begin(), parts_.tensors.end(), [&](const NamedTensor& a, const NamedTensor& b) {
      const int x = rank(a.name), y = rank(b.name);
      return x != y ? x < y : a.name < b.name;
    });
  }

  int usual_file_type() const {
    std::map<int, int64_t> weights;
    for (const NamedTensor& t : parts_.tensors)
      if (t.tensor.shape.n > 1) weights[t.tensor.format->file_type] += t.tensor.shape.count();
    const auto most = std::ranges::max_element(weights, {}, [](const auto& w) { return w.second; });
    return most == weights.end() ? -1 : most->first;
  }

  const Json& config_;
  const Architecture& architecture_;
  const HfFamily& family_;
  const HfNames names_;
  int64_t heads_ = 1, kv_heads_ = 1;
  Gguf::Parts parts_;
};

}  // namespace

Gguf open_hf_folder(const fs::path& folder) {
  const std::string place = (folder / "config.json").string();
  std::error_code ignored;
  if (!fs::exists(folder / "config.json", ignored)) {
    if (fs::exists(folder / "adapter_config.json", ignored))
      throw refused(folder.string(), "is an adapter, not a model", "merge it into its base first");
    throw refused(folder.string(), "is no model: it has no config.json",
                  "a model is a GGUF file, or a folder with config.json and *.safetensors");
  }
  const Json config = *hf_json(folder, "config.json");
  try {
    const Architecture& architecture = hf_architecture(config, place);
    GgufWriter checked;
    put_hf_config(config, architecture, checked);
    return FolderReader(folder, config, architecture).open();
  } catch (const Error& e) {
    throw Error(e.code, e.place.empty() ? place : e.place, e.what(), e.hint);
  }
}

}  // namespace fettle
