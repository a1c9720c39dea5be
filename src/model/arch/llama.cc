// Llama (Touvron et al. 2023) and what GGUF stores under its name: Llama 2 and 3, Mistral, SmolLM2. RMSNorm, grouped-query attention with
// interleaved rotary positions (GGUF permutes q and k so), SwiGLU; optional biases on q, k, v and frequency factors (Llama 3.1's scaling).
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/model.h"

namespace fettle {
namespace {

struct Block {
  const float *attention_norm, *ffn_norm;
  Linear q, k, v, output, gate, up, down;
};

class Llama final : public Network {
 public:
  explicit Llama(Model& model) : model_(model) {
    const Config& c = model.config;
    const Gguf& file = *model.file;
    norm_ = load_vector(model, "output_norm.weight", c.d_model);
    if (file.find("rope_freqs.weight")) factors_ = load_vector(model, "rope_freqs.weight", c.rope_dims / 2);
    blocks_.resize(size_t(c.layers));
    const int query = c.heads * c.head_dim, key = c.kv_heads * c.head_dim;
    for (int i = 0; i < c.layers; i++) {
      const std::string at = "blk." + std::to_string(i) + ".";
      Block& b = blocks_[size_t(i)];
      const auto load = [&](const char* name, int out, int in) {
        Linear l = load_linear(model, at + name + ".weight", out, in);
        if (file.find(at + name + ".bias")) l.bias = load_vector(model, at + name + ".bias", out);
        return l;
      };
      b.attention_norm = load_vector(model, at + "attn_norm.weight", c.d_model);
      b.q = load("attn_q", query, c.d_model);
      b.k = load("attn_k", key, c.d_model);
      b.v = load("attn_v", key, c.d_model);
      b.output = load("attn_output", c.d_model, query);
      b.ffn_norm = load_vector(model, at + "ffn_norm.weight", c.d_model);
      b.gate = load("ffn_gate", c.d_ff, c.d_model);
      b.up = load("ffn_up", c.d_ff, c.d_model);
      b.down = load("ffn_down", c.d_model, c.d_ff);
    }
  }

  Var* hidden(Run& run, const Batch& batch) override {
    Var* stream = embed(run, model_.embedding, batch.tokens);
    for (int i = 0; i < model_.config.layers; i++) run.block(stream, [this, &run, &batch, i](Var* s) { block(run, batch, i, s); });
    return rmsnorm(run, stream, norm_, model_.config.norm_epsilon);
  }

  std::vector<Linear*> linears() override {
    std::vector<Linear*> all;
    for (Block& b : blocks_)
      for (Linear* l : {&b.q, &b.k, &b.v, &b.output, &b.gate, &b.up, &b.down}) all.push_back(l);
    return all;
  }

 private:
  void block(Run& run, const Batch& batch, int layer, Var* stream) {
    const Config& c = model_.config;
    const Block& b = blocks_[size_t(layer)];
    Var* x = rmsnorm(run, stream, b.attention_norm, c.norm_epsilon);
    const Linear* qkv[] = {&b.q, &b.k, &b.v};
    Var* head[3];
    linear(run, x, qkv, head);
    rope(run, head[0], {c.heads, c.head_dim, c.rope_dims, c.rope_base, true, factors_}, batch.positions);
    rope(run, head[1], {c.kv_heads, c.head_dim, c.rope_dims, c.rope_base, true, factors_}, batch.positions);
    const Attention shape{layer, c.heads, c.kv_heads, c.head_dim, c.window, 1 / std::sqrt(float(c.head_dim))};
    Var* seen = attention(run, head[0], head[1], head[2], shape, batch);
    add(run, stream, linear(run, seen, b.output));
    Var* y = rmsnorm(run, stream, b.ffn_norm, c.norm_epsilon);
    const Linear* gates[] = {&b.gate, &b.up};
    Var* wide[2];
    linear(run, y, gates, wide);
    add(run, stream, linear(run, swiglu(run, wide[0], wide[1]), b.down));
  }

  Model& model_;
  const float *norm_ = nullptr, *factors_ = nullptr;
  std::vector<Block> blocks_;
};

void configure(const Gguf& file, Config& c) {
  if (file.integer("llama.expert_count").value_or(0) > 0)
    throw refused(file.path().string(), "a Llama with experts (Mixtral) is not supported");
  c.window = int(file.integer("llama.attention.sliding_window").value_or(0));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  if (const std::string activation = hf_string(config, "hidden_act").value_or("silu"); activation != "silu")
    throw refused("", "hidden_act is '" + activation + "', a Llama's is silu");
  if (const int64_t window = hf_integer(config, "sliding_window").value_or(0))
    out.set_integer("llama.attention.sliding_window", uint32_t(window));
}

void config(const Gguf& file, nlohmann::json& config) {
  config["hidden_act"] = "silu";
  config["mlp_bias"] = file.find("blk.0.ffn_up.bias") != nullptr;
  if (const int64_t window = file.integer("llama.attention.sliding_window").value_or(0)) {
    config["model_type"] = "mistral";  // a Llama in transformers has no window
    config["architectures"] = {"MistralForCausalLM"};
    config["sliding_window"] = window;
  }
}

constexpr const char* kTypes[] = {"llama", "mistral"};
constexpr HfFamily kFamily = {
    .model_types = kTypes, .names = {}, .metadata = metadata, .permuted = true, .norm_shift = 0, .config = config};

}  // namespace

extern const Architecture llama_architecture = {
    "llama", configure, [](Model& model) -> std::unique_ptr<Network> { return std::make_unique<Llama>(model); }, &kFamily};

}  // namespace fettle
