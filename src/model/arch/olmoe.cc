// OLMoE (Muennighoff et al. 2024): eight of 64 experts by their probabilities among all, which are not made to sum to one; norms of whole
// rows of queries and keys. Clipped queries and keys (clip_qkv) are not handled.
#include <nlohmann/json.hpp>

#include "model/experts.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  const Gguf& file = *model.file;
  if (file.real("olmoe.attention.clamp_kqv").value_or(0) > 0)
    throw refused(file.path().string(), "queries and keys are clipped (attention.clamp_kqv), which fettle does not do");
  DecoderStyle style(model.config);
  style.qk_norm = QkNorm::rows;
  use_experts(style, model, {});
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  if (hf_real(config, "clip_qkv")) throw refused("", "clip_qkv is not supported");
  put_experts(config, "olmoe", out);
  out.set("olmoe.expert_weights_norm", {GgufValue::Type::boolean, {}, hf_boolean(config, "norm_topk_prob").value_or(false)});
}

void config(const Gguf& file, nlohmann::json& config) {
  get_experts(file, "olmoe", "num_experts", config);
  config["norm_topk_prob"] = file.boolean("olmoe.expert_weights_norm").value_or(false);
}

constexpr const char* kTypes[] = {"olmoe"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kExpertNames, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture olmoe_architecture = {"olmoe", build, &kFamily};

}  // namespace fettle
