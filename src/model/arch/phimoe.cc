// PhiMoE (Abdin et al. 2024, Phi-3.5-MoE): two of sixteen experts as SparseMixer chooses them, whose weights do not sum to one; LayerNorm,
// biases throughout, LongRoPE. A GGUF has no key for the router's jitter: the released model's 0.01 is meant, other values have one here.
#include <nlohmann/json.hpp>

#include "model/experts.h"
#include "model/windows.h"

namespace fettle {
namespace {

constexpr const char* kJitter = "phimoe.expert_router_jitter";

std::unique_ptr<Network> build(Model& model) {
  const Gguf& file = *model.file;
  DecoderStyle style(model.config);
  style.layer_norms = true;
  style.fused = file.find("blk.0.attn_qkv.weight");
  for (DecoderLayer& layer : style.layers) layer.window = read_window(model);
  Routing usual{.gate = Routing::sparse_mixer};
  usual.jitter = float(file.real(kJitter).value_or(double(usual.jitter)));
  use_experts(style, model, usual);
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  put_experts(config, "phimoe", out);
  if (hf_integer(config, "num_experts_per_tok").value_or(2) != 2) throw refused("", "SparseMixer chooses two experts");
  if (const auto jitter = hf_real(config, "router_jitter_noise"); jitter && *jitter != 0.01) out.set_real(kJitter, float(*jitter));
  if (const auto window = hf_integer(config, "sliding_window"); window && *window > 0)
    out.set_integer("phimoe.attention.sliding_window", uint32_t(*window));
  // what other models derive is said here, once for short sequences and once for long ones
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto rope = config.find(key);
    if (rope == config.end() || !rope->is_object()) continue;
    const auto brief = hf_real(*rope, "short_mscale"), extended = hf_real(*rope, "long_mscale");
    if (brief != extended) throw refused("", "short_mscale and long_mscale differ, which is not supported");
    if (brief) out.set_real("phimoe.rope.scaling.attn_factor", float(*brief));
  }
}

void config(const Gguf& file, nlohmann::json& config) {
  get_experts(file, "phimoe", "num_local_experts", config);
  config["router_jitter_noise"] = file.real(kJitter).value_or(0.01);
  config["attention_bias"] = file.find("blk.0.attn_q.bias") != nullptr;
  config["lm_head_bias"] = file.find("output.bias") != nullptr;
  if (const auto window = file.integer("phimoe.attention.sliding_window")) config["sliding_window"] = *window;
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const auto rope = config.find(key); rope != config.end() && rope->is_object() && rope->value("rope_type", "default") != "default")
      (*rope)["short_mscale"] = (*rope)["long_mscale"] = file.real("phimoe.rope.scaling.attn_factor").value_or(1);
}

constexpr const char* kTypes[] = {"phimoe"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kMixtralNames, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture phimoe_architecture = {"phimoe", build, &kFamily};

}  // namespace fettle
