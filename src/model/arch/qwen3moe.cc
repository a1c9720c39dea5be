// Qwen3 with experts (Yang et al. 2025): eight of 128 by their probabilities among all, as much together as one; norms of each head's
// queries and keys.
#include <nlohmann/json.hpp>

#include "model/experts.h"
#include "model/windows.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.qk_norm = QkNorm::heads;
  use_experts(style, model, {.renormalized = true}, true);
  set_listed_windows(model, style);
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  put_experts(config, "qwen3moe", out);
  put_listed_windows(
      config, "qwen3moe", [](const nlohmann::json&, int) { return true; }, out);
  out.set("qwen3moe.expert_weights_norm", {GgufValue::Type::boolean, {}, hf_boolean(config, "norm_topk_prob").value_or(false)});
}

void config(const Gguf& file, nlohmann::json& config) {
  get_experts(file, "qwen3moe", "num_experts", config);
  get_dense_blocks(file, "qwen3moe", config);
  get_listed_windows(file, "qwen3moe", config);
  config["norm_topk_prob"] = file.boolean("qwen3moe.expert_weights_norm").value_or(true);
}

constexpr const char* kTypes[] = {"qwen3_moe"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kExpertNames, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture qwen3moe_architecture = {"qwen3moe", build, &kFamily};

}  // namespace fettle
