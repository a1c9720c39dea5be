// Qwen3 with experts (Yang et al. 2025): eight of 128 by their probabilities among all, as much together as one; norms of each head's
// queries and keys. Blocks without experts (mlp_only_layers) are not handled.
#include <nlohmann/json.hpp>

#include "model/experts.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.qk_norm = QkNorm::heads;
  use_experts(style, model, {.renormalized = true});
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  put_experts(config, "qwen3moe", out);
  require_experts_everywhere(config);
  out.set("qwen3moe.expert_weights_norm", {GgufValue::Type::boolean, {}, hf_boolean(config, "norm_topk_prob").value_or(false)});
}

void config(const Gguf& file, nlohmann::json& config) {
  get_experts(file, "qwen3moe", "num_experts", config);
  config["norm_topk_prob"] = file.boolean("qwen3moe.expert_weights_norm").value_or(true);
}

constexpr const char* kTypes[] = {"qwen3_moe"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kExpertNames, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture qwen3moe_architecture = {"qwen3moe", build, &kFamily};

}  // namespace fettle
