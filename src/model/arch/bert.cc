// BERT (Devlin et al. 2019) and the encoders of sentences that are made of it (MiniLM, BGE, E5): tokens see in both directions, positions
// are a table's rows, and norms stand behind what blocks add instead of before. What it computes are states, of which embeddings are made.
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "model/decoder.h"

namespace fettle {
namespace {

struct Norm {
  const float *weight = nullptr, *bias = nullptr;
};

struct Block {
  Linear qkv[3], output, up, down;
  Norm attended, fed;
};

class Bert final : public Network {
 public:
  explicit Bert(Model& model) : model_(model), blocks_(size_t(model.config.layers)) {
    const Config& c = model.config;
    const std::string place = model.file->path().string();
    if (c.causal) throw refused(place, "bert.attention.causal is not false", "an encoder sees in both directions");
    if (c.kv_heads != c.heads || c.heads * c.head_dim != c.d_model) throw refused(place, "its heads are not those of a bert");
    positions_ = load_linear(model, "position_embd.weight", c.context, c.d_model);
    types_ = load_linear(model, "token_types.weight", int(model.file->tensor("token_types.weight").shape.rows()), c.d_model);
    embedded_ = load_norm("token_embd_norm");
    for (size_t i = 0; i < blocks_.size(); i++) load(blocks_[i], "blk." + std::to_string(i) + ".");
  }

  Var* hidden(Run& run, const Batch& batch) override {
    if (run.tape || run.kv) model_.require_text();
    Var* stream = embed(run, model_.embedding, batch.tokens);
    add(run, stream, embed(run, positions_, batch.positions));
    add(run, stream, embed(run, types_, std::vector<int>(batch.tokens.size(), 0)));  // all of the first of two sentences
    normalize(run, stream, embedded_);
    for (size_t i = 0; i < blocks_.size(); i++) run.block(stream, [this, &run, &batch, i](Var* s) { block(run, batch, int(i), s); });
    return stream;
  }

  std::vector<Linear*> linears() override {
    std::vector<Linear*> all;
    for (Block& b : blocks_)
      for (Linear* l : {&b.qkv[0], &b.qkv[1], &b.qkv[2], &b.output, &b.up, &b.down}) all.push_back(l);
    return all;
  }

 private:
  Norm load_norm(const std::string& name) {
    const int n = model_.config.d_model;
    return {load_vector(model_, name + ".weight", n), load_vector(model_, name + ".bias", n)};
  }

  void load(Block& b, const std::string& at) {
    const Config& c = model_.config;
    const char* names[] = {"attn_q", "attn_k", "attn_v"};
    for (int i = 0; i < 3; i++) b.qkv[i] = load_biased(model_, at + names[i], c.d_model, c.d_model);
    b.output = load_biased(model_, at + "attn_output", c.d_model, c.d_model);
    b.attended = load_norm(at + "attn_output_norm");
    b.up = load_biased(model_, at + "ffn_up", c.d_ff, c.d_model);
    b.down = load_biased(model_, at + "ffn_down", c.d_model, c.d_ff);
    b.fed = load_norm(at + "layer_output_norm");
  }

  void normalize(Run& run, Var* stream, const Norm& norm) const {
    const Var* y = layernorm(run, stream, norm.weight, norm.bias, model_.config.norm_epsilon);
    std::memcpy(stream->data, y->data, size_t(stream->count()) * sizeof(float));
  }

  void block(Run& run, const Batch& batch, int index, Var* stream) const {
    const Config& c = model_.config;
    const Block& b = blocks_[size_t(index)];
    const Linear* each[] = {&b.qkv[0], &b.qkv[1], &b.qkv[2]};
    Var* qkv[3];
    linear(run, stream, each, qkv);
    const float scale = 1 / std::sqrt(float(c.head_dim));
    const Attention shape{.layer = index, .heads = c.heads, .kv_heads = c.heads, .head_dim = c.head_dim, .scale = scale, .causal = false};
    add(run, stream, linear(run, attention(run, qkv[0], qkv[1], qkv[2], shape, batch), b.output));
    normalize(run, stream, b.attended);
    add(run, stream, linear(run, gelu(run, linear(run, stream, b.up)), b.down));
    normalize(run, stream, b.fed);
  }

  Model& model_;
  std::vector<Block> blocks_;
  Linear positions_, types_;
  Norm embedded_;
};

std::unique_ptr<Network> build(Model& model) { return std::make_unique<Bert>(model); }

void metadata(const nlohmann::json& config, GgufWriter& out) {
  if (const std::string activation = hf_string(config, "hidden_act").value_or("gelu"); activation != "gelu")
    throw refused("", "hidden_act is '" + activation + "', a bert's is gelu");
  if (const std::string kind = hf_string(config, "position_embedding_type").value_or("absolute"); kind != "absolute")
    throw refused("", "position_embedding_type is '" + kind + "', which is not supported");
  if (hf_boolean(config, "is_decoder").value_or(false)) throw refused("", "is_decoder: a bert that writes text is not supported");
  out.set_real("bert.attention.layer_norm_epsilon", float(hf_real(config, "layer_norm_eps").value_or(1e-12)));
  out.set("bert.attention.causal", {GgufValue::Type::boolean, {}, false});
  out.set_integer("tokenizer.ggml.token_type_count", uint32_t(hf_integer(config, "type_vocab_size").value_or(2)));
}

void config(const Gguf& file, nlohmann::json& config) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) config.erase(key);
  config["architectures"] = {"BertModel"};
  config["hidden_act"] = "gelu";
  config["position_embedding_type"] = "absolute";
  config["layer_norm_eps"] = file.real("bert.attention.layer_norm_epsilon").value_or(1e-12);
  config["type_vocab_size"] = file.tensor("token_types.weight").shape.rows();
}

constexpr HfName kNames[] = {{"token_embd", "embeddings.word_embeddings"},
                             {"position_embd", "embeddings.position_embeddings"},
                             {"token_types", "embeddings.token_type_embeddings"},
                             {"token_embd_norm", "embeddings.LayerNorm"},
                             {"blk.{}.attn_q", "encoder.layer.{}.attention.self.query"},
                             {"blk.{}.attn_k", "encoder.layer.{}.attention.self.key"},
                             {"blk.{}.attn_v", "encoder.layer.{}.attention.self.value"},
                             {"blk.{}.attn_output", "encoder.layer.{}.attention.output.dense"},
                             {"blk.{}.attn_output_norm", "encoder.layer.{}.attention.output.LayerNorm"},
                             {"blk.{}.ffn_up", "encoder.layer.{}.intermediate.dense"},
                             {"blk.{}.ffn_down", "encoder.layer.{}.output.dense"},
                             {"blk.{}.layer_output_norm", "encoder.layer.{}.output.LayerNorm"}};
constexpr const char* kTypes[] = {"bert"};
constexpr const char* kUnused[] = {"pooler.", "bert.pooler.", "model.pooler.", "cls."};  // heads of its first training
constexpr HfFamily kFamily = {
    .model_types = kTypes, .names = kNames, .metadata = metadata, .config = config, .encoder = true, .unused = kUnused};

}  // namespace

extern const Architecture bert_architecture = {"bert", build, &kFamily};

}  // namespace fettle
