// Experts of a block as linears: each is a view of its part of the stack that GGUF keeps, or a tensor of its own; their names are those of
// tensors of their own either way.
#include "model/experts.h"

#include <nlohmann/json.hpp>

namespace fettle {
namespace {

class Experts final : public FeedForward {
 public:
  Experts(Model& model, const std::string& block, const ExpertStyle& style)
      : routing_(style.routing), experts_(size_t(style.routing.experts)) {
    const int d = model.config.d_model, n = routing_.experts;
    router_ = load_biased(model, block + "ffn_gate_inp", n, d);
    router_.exact = true;
    load(model, block + "ffn_gate", &Expert::gate, style.width, d);
    load(model, block + "ffn_up", &Expert::up, style.width, d);
    load(model, block + "ffn_down", &Expert::down, d, style.width);
    if (!style.shared_width) return;
    shared_.gate = load_linear(model, block + "ffn_gate_shexp.weight", style.shared_width, d);
    shared_.up = load_linear(model, block + "ffn_up_shexp.weight", style.shared_width, d);
    shared_.down = load_linear(model, block + "ffn_down_shexp.weight", d, style.shared_width);
    const std::string gate = block + "ffn_gate_inp_shexp.weight";
    if (!model.file->find(gate)) return;
    load_vector(model, gate, d);
    shared_gate_ = Linear(gate, model.file->tensor(gate));
    shared_gate_.exact = true;
  }

  Var* forward(Run& run, Var* x) override {
    Var* y = mixture(run, x, linear(run, x, router_), routing_, experts_);
    if (!shared_.down.out) return y;
    const Linear* gates[] = {&shared_.gate, &shared_.up};
    Var* wide[2];
    linear(run, x, gates, wide);
    Var* always = linear(run, swiglu(run, wide[0], wide[1]), shared_.down);
    if (shared_gate_.out) gate_rows(run, always, linear(run, x, shared_gate_));
    add(run, y, always);
    return y;
  }

  std::vector<Linear*> linears() override {
    std::vector<Linear*> all{&router_};
    for (Expert& e : experts_)
      for (Linear* l : {&e.gate, &e.up, &e.down}) all.push_back(l);
    if (shared_.down.out)
      for (Linear* l : {&shared_.gate, &shared_.up, &shared_.down}) all.push_back(l);
    if (shared_gate_.out) all.push_back(&shared_gate_);
    return all;
  }

 private:
  void load(Model& model, const std::string& role, Linear Expert::*part, int out, int in) {
    const std::string name = role + "_exps.weight";
    const Tensor* stack = model.file->find(name);
    const Shape wanted{routing_.experts, out, in};
    if (stack && stack->shape != wanted)
      throw refused(model.file->path().string() + ": tensor " + name, "has shape " + stack->shape.text() + ", expected " + wanted.text());
    if (stack) model.loaded.insert(name);
    for (int e = 0; e < routing_.experts; e++) {
      const std::string own = role + "." + std::to_string(e) + ".weight";
      experts_[size_t(e)].*part = stack ? Linear(own, expert_of(*stack, e)) : load_linear(model, own, out, in);
    }
  }

  Routing routing_;
  Linear router_, shared_gate_;
  std::vector<Expert> experts_;
  Expert shared_;
};

bool is_dense(const Gguf& file, const std::string& block) {
  return !file.find(block + "ffn_gate_inp.weight") && file.find(block + "ffn_gate.weight");
}

}  // namespace

ExpertStyle read_experts(Model& model, const Routing& usual) {
  const Gguf& file = *model.file;
  Config& c = model.config;
  const std::string arch = c.architecture + ".", place = file.path().string();
  const auto number = [&](const char* key, int64_t fallback, int64_t high) {
    const int64_t value = file.integer(arch + key).value_or(fallback);
    if (value < 1 || value > high)
      throw refused(place, arch + key + " is " + std::to_string(value) + ", expected 1 to " + std::to_string(high));
    return int(value);
  };
  ExpertStyle style{usual, 0, 0};
  Routing& r = style.routing;
  r.experts = number("expert_count", 0, 1 << 14);
  r.used = number("expert_used_count", 0, r.experts);
  switch (file.integer(arch + "expert_gating_func").value_or(0)) {
    case 0:
      break;
    case 1:
      r.gate = Routing::softmax;
      break;
    case 2:
      r.gate = Routing::sigmoid;
      break;
    case 3:  // softmax of the chosen
      r.gate = Routing::softmax;
      r.renormalized = true;
      break;
    default:
      throw refused(place, arch + "expert_gating_func is none that fettle knows");
  }
  r.renormalized = file.boolean(arch + "expert_weights_norm").value_or(r.renormalized);
  if (const auto scale = file.real(arch + "expert_weights_scale"); scale && *scale != 0) r.scale = float(*scale);
  for (const char* key : {"expert_group_count", "expert_group_used_count"})
    if (file.integer(arch + key).value_or(1) > 1) throw refused(place, "its experts are chosen in groups, which fettle does not do");
  style.width = number("expert_feed_forward_length", c.d_ff, 1 << 24);
  if (file.integer(arch + "expert_shared_feed_forward_length").value_or(0) > 0)
    style.shared_width = number("expert_shared_feed_forward_length", 1, 1 << 24);
  const int64_t width = int64_t(r.used) * style.width + style.shared_width;
  if (width > 1 << 24) throw refused(place, "its experts are " + std::to_string(width) + " wide together");
  c.experts = r.experts;
  c.experts_used = r.used;
  c.d_ff = int(width);
  return style;
}

void use_experts(DecoderStyle& style, Model& model, const Routing& usual, bool some_dense) {
  const int dense_width = model.config.d_ff;  // before experts make it what a row comes through
  style.feed_forward = [experts = read_experts(model, usual), some_dense, dense_width](Model& m, const std::string& block) {
    return some_dense && is_dense(*m.file, block) ? make_dense(m, block, dense_width, false, Activation::silu)
                                                  : make_experts(m, block, experts);
  };
}

void put_experts(const nlohmann::json& config, const char* architecture, GgufWriter& out) {
  // transformers 5 calls them num_local_experts in families that had num_experts
  const int64_t experts = hf_integer(config, "num_local_experts").value_or(hf_integer(config, "num_experts").value_or(0));
  if (!experts) return;
  const std::string arch = std::string(architecture) + ".";
  const std::optional<int64_t> used = hf_integer(config, "num_experts_per_tok"), width = hf_integer(config, "moe_intermediate_size");
  if (!used) throw refused("", "num_experts_per_tok is missing");
  out.set_integer(arch + "expert_count", uint32_t(experts));
  out.set_integer(arch + "expert_used_count", uint32_t(*used));
  if (width) out.set_integer(arch + "expert_feed_forward_length", uint32_t(*width));
}

void get_dense_blocks(const Gguf& file, const char* architecture, nlohmann::json& config) {
  for (int64_t i = 0; i < file.integer(std::string(architecture) + ".block_count").value_or(0); i++)
    if (is_dense(file, "blk." + std::to_string(i) + ".")) config["mlp_only_layers"].push_back(i);
}

bool get_experts(const Gguf& file, const char* architecture, const char* count, nlohmann::json& config) {
  const std::string arch = std::string(architecture) + ".";
  const int64_t experts = file.integer(arch + "expert_count").value_or(0);
  if (!experts) return false;
  config[count] = experts;
  config["num_experts_per_tok"] = file.integer(arch + "expert_used_count").value_or(0);
  if (const auto width = file.integer(arch + "expert_feed_forward_length")) config["moe_intermediate_size"] = *width;
  return true;
}

std::unique_ptr<FeedForward> make_experts(Model& model, const std::string& block, const ExpertStyle& style) {
  return std::make_unique<Experts>(model, block, style);
}

}  // namespace fettle
