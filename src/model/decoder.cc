// Blocks: x += output(attention(rope(q), rope(k), v)) of norm(x); x += down(silu(gate) * up) of norm(x), or what an architecture has in its
// place.
#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "model/rotation.h"

namespace fettle {
namespace {

// Gate, up and down; where they are fused, up's rows are the gate's, then its own.
class Dense final : public FeedForward {
 public:
  Dense(Model& model, const std::string& block, int width, bool fused, Activation activation) : activation_(activation) {
    const int d_model = model.config.d_model;
    if (!fused) gate_ = load_biased(model, block + "ffn_gate", width, d_model);
    up_ = load_biased(model, block + "ffn_up", fused ? 2 * width : width, d_model);
    down_ = load_biased(model, block + "ffn_down", d_model, width);
  }

  Var* forward(Run& run, Var* x) override {
    Var* wide[2];
    if (fused()) {
      Var* both = linear(run, x, up_);
      for (int i = 0; i < 2; i++) wide[i] = columns(run, both, i * down_.in, down_.in);
    } else {
      const Linear* gates[] = {&gate_, &up_};
      linear(run, x, gates, wide);
    }
    return linear(run, (activation_ == Activation::silu ? swiglu : geglu)(run, wide[0], wide[1]), down_);
  }

  std::vector<Linear*> linears() override { return fused() ? std::vector{&up_, &down_} : std::vector{&gate_, &up_, &down_}; }

 private:
  bool fused() const { return gate_.out == 0; }
  Activation activation_;
  Linear gate_, up_, down_;
};

struct Norm {
  const float *weight = nullptr, *bias = nullptr;  // no weight: there is none
  int width = 0;                                   // of what is normed together, 0: whole rows
};

struct Block {
  Norm attention, query, key, attended, ffn, fed;  // in the order of their use
  std::vector<Linear> qkv;                         // q, k, v, or one for all
  Linear output;
  std::unique_ptr<FeedForward> feed_forward;
};

// What the longest sequence comes to.
int longest(const Run& run, const Batch& batch) {
  int tokens = run.longest;
  for (const Batch::Segment& s : batch.segments) tokens = std::max(tokens, s.start + s.count);
  return tokens;
}

class Decoder final : public Network {
 public:
  Decoder(Model& model, DecoderStyle style) : model_(model), style_(std::move(style)), blocks_(size_t(model.config.layers)) {
    const Config& c = model.config;
    if (model.file->integer(c.architecture + ".attention.sliding_window").value_or(0) > 0 &&
        std::ranges::none_of(style_.layers, [](const DecoderLayer& l) { return l.window > 0; }))
      throw refused(model.file->path().string(), "has a sliding window, which fettle does not know of a " + c.architecture,
                    "running it without would give wrong answers");
    if (!c.causal)
      throw refused(model.file->path().string(), "sees what comes later, which fettle does not know of a " + c.architecture,
                    "running it without would give wrong answers");
    final_ = load_norm("output_norm", c.d_model);
    rotation_ = read_rotation(model, c.rope_base);
    for (size_t i = 0; i < blocks_.size(); i++) load(blocks_[i], "blk." + std::to_string(i) + ".");
  }

  Var* hidden(Run& run, const Batch& batch) override {
    Var* stream = embed(run, model_.embedding, batch.tokens);
    if (style_.embedding_scale != 1) scale(run, stream, style_.embedding_scale);
    for (size_t i = 0; i < blocks_.size(); i++)
      run.block(stream, [this, &run, &batch, i](Var* s) {
        attend(run, batch, int(i), s);
        feed(run, blocks_[i], s);
      });
    Var* states = normed(run, stream, final_);
    if (style_.output_scale != 1) scale(run, states, style_.output_scale);
    return states;
  }

  std::vector<Linear*> linears() override {
    std::vector<Linear*> all;
    for (Block& b : blocks_) {
      for (Linear& l : b.qkv) all.push_back(&l);
      all.push_back(&b.output);
      for (Linear* l : b.feed_forward->linears()) all.push_back(l);
    }
    return all;
  }

 private:
  Norm load_norm(const std::string& name, int n) {
    return {load_vector(model_, name + ".weight", n), style_.layer_norms ? load_vector(model_, name + ".bias", n) : nullptr};
  }

  void load(Block& b, const std::string& at) {
    const Config& c = model_.config;
    const int query = c.heads * c.head_dim, key = c.kv_heads * c.head_dim;
    if (style_.pre_norms) b.attention = load_norm(at + "attn_norm", c.d_model);
    if (style_.fused) {
      b.qkv.push_back(load_biased(model_, at + "attn_qkv", query + 2 * key, c.d_model));
    } else {
      b.qkv.push_back(load_biased(model_, at + "attn_q", query, c.d_model));
      b.qkv.push_back(load_biased(model_, at + "attn_k", key, c.d_model));
      b.qkv.push_back(load_biased(model_, at + "attn_v", key, c.d_model));
    }
    if (style_.qk_norm != QkNorm::none) {
      const bool heads = style_.qk_norm == QkNorm::heads;
      for (auto [norm, name, n] : {std::tuple(&b.query, "attn_q_norm.weight", query), std::tuple(&b.key, "attn_k_norm.weight", key)}) {
        norm->width = heads ? c.head_dim : n;
        norm->weight = load_vector(model_, at + name, norm->width);
      }
    }
    b.output = load_biased(model_, at + "attn_output", c.d_model, query);
    if (style_.post_norms) b.attended = load_norm(at + "post_attention_norm", c.d_model);
    if (style_.pre_norms) b.ffn = load_norm(at + "ffn_norm", c.d_model);
    b.feed_forward =
        style_.feed_forward ? style_.feed_forward(model_, at) : make_dense(model_, at, c.d_ff, style_.fused, style_.activation);
    if (style_.post_norms) b.fed = load_norm(at + "post_ffw_norm", c.d_model);
  }

  Var* normed(Run& run, Var* x, const Norm& norm) const {
    if (!norm.weight) return x;
    const float epsilon = model_.config.norm_epsilon;
    return norm.bias ? layernorm(run, x, norm.weight, norm.bias, epsilon) : rmsnorm(run, x, norm.weight, epsilon, norm.width);
  }

  // What attention or a feed-forward reads. Going back it must be as it is now, which the stream will not be.
  Var* read(Run& run, Var* stream, const Norm& norm) const {
    return norm.weight ? normed(run, stream, norm) : columns(run, stream, 0, stream->cols);
  }

  void project(Run& run, Var* x, const std::vector<Linear>& linears, Var* (&qkv)[3]) const {
    const Config& c = model_.config;
    if (linears.size() == 3) {
      const Linear* each[] = {&linears[0], &linears[1], &linears[2]};
      return linear(run, x, each, qkv);
    }
    Var* all = linear(run, x, linears[0]);
    const int query = c.heads * c.head_dim, key = c.kv_heads * c.head_dim;
    qkv[0] = columns(run, all, 0, query);
    for (int i = 0; i < 2; i++) qkv[1 + i] = columns(run, all, query + i * key, key);
  }

  void attend(Run& run, const Batch& batch, int index, Var* stream) const {
    const Config& c = model_.config;
    const Block& b = blocks_[size_t(index)];
    const DecoderLayer& layer = style_.layers[size_t(index)];
    Var* qkv[3];
    project(run, read(run, stream, b.attention), b.qkv, qkv);
    Var *q = normed(run, qkv[0], b.query), *k = normed(run, qkv[1], b.key);
    if (layer.rotated) {
      Rope turn{0, c.head_dim, c.rope_dims, layer.rope_base, style_.interleaved};
      if (layer.scaled) turn.factors = rotation_.factors(longest(run, batch)), turn.magnitude = rotation_.magnitude;
      for (Var* x : {q, k}) {
        turn.heads = x->cols / c.head_dim;
        rope(run, x, turn, batch.positions);
      }
    }
    const Attention shape{index, c.heads, c.kv_heads, c.head_dim, layer.window, style_.attention_scale, style_.score_cap};
    Var* seen = attention(run, q, k, qkv[2], shape, batch);
    add(run, stream, normed(run, linear(run, seen, b.output), b.attended), style_.residual_scale);
  }

  void feed(Run& run, const Block& b, Var* stream) const {
    Var* x = b.feed_forward->forward(run, read(run, stream, b.ffn));
    add(run, stream, normed(run, x, b.fed), style_.residual_scale);
  }

  Model& model_;
  DecoderStyle style_;
  std::vector<Block> blocks_;
  Norm final_;
  Rotation rotation_;
};

}  // namespace

DecoderStyle::DecoderStyle(const Config& config)
    : layers(size_t(config.layers), DecoderLayer{.rope_base = config.rope_base}), attention_scale(1 / std::sqrt(float(config.head_dim))) {}

std::unique_ptr<Network> make_decoder(Model& model, DecoderStyle style) { return std::make_unique<Decoder>(model, std::move(style)); }

std::unique_ptr<FeedForward> make_dense(Model& model, const std::string& block, int width, bool fused, Activation activation) {
  return std::make_unique<Dense>(model, block, width, fused, activation);
}

Linear load_biased(Model& model, const std::string& name, int out, int in) {
  Linear l = load_linear(model, name + ".weight", out, in);
  if (model.file->find(name + ".bias")) l.bias = load_vector(model, name + ".bias", out);
  return l;
}

}  // namespace fettle
