// Qwen2 with experts (Qwen1.5-MoE, Bai et al. 2024): four of 60 by their probabilities among all, and a larger one that sees every row
// behind a gate of its own; biases on q, k and v.
#include <nlohmann/json.hpp>

#include "model/experts.h"
#include "model/windows.h"

namespace fettle {
namespace {

constexpr const char* kShared = "qwen2moe.expert_shared_feed_forward_length";

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  use_experts(style, model, {}, true);
  set_listed_windows(model, style);
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  put_experts(config, "qwen2moe", out);
  put_listed_windows(config, "qwen2moe", nullptr, out);
  out.set_integer(kShared, uint32_t(hf_integer(config, "shared_expert_intermediate_size").value_or(5632)));
  out.set("qwen2moe.expert_weights_norm", {GgufValue::Type::boolean, {}, hf_boolean(config, "norm_topk_prob").value_or(false)});
}

void config(const Gguf& file, nlohmann::json& config) {
  get_experts(file, "qwen2moe", "num_experts", config);
  get_dense_blocks(file, "qwen2moe", config);
  get_listed_windows(file, "qwen2moe", config);
  config["shared_expert_intermediate_size"] = file.integer(kShared).value_or(0);
  config["norm_topk_prob"] = file.boolean("qwen2moe.expert_weights_norm").value_or(false);
}

constexpr const char* kTypes[] = {"qwen2_moe"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kExpertNames, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture qwen2moe_architecture = {"qwen2moe", build, &kFamily};

}  // namespace fettle
