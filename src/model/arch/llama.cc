// Llama (Touvron et al. 2023) and what GGUF stores under its name: Llama 2 and 3, Mistral, SmolLM2, and Mixtral (Jiang et al. 2024), whose
// feed-forward is two of eight experts by the softmax of their logits. GGUF orders the rows of q and k so that
// rotated pairs lie side by side.
#include <nlohmann/json.hpp>

#include "model/experts.h"
#include "model/windows.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.interleaved = true;
  for (DecoderLayer& layer : style.layers) layer.window = read_window(model);
  if (model.file->integer("llama.expert_count").value_or(0) > 0) use_experts(style, model, {.renormalized = true});
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  if (const int64_t window = hf_integer(config, "sliding_window").value_or(0))
    out.set_integer("llama.attention.sliding_window", uint32_t(window));
  put_experts(config, "llama", out);
}

void config(const Gguf& file, nlohmann::json& config) {
  config["hidden_act"] = "silu";
  config["mlp_bias"] = file.find("blk.0.ffn_up.bias") != nullptr;
  if (const int64_t window = file.integer("llama.attention.sliding_window").value_or(0)) {
    config["model_type"] = "mistral";  // a Llama in transformers has no window
    config["sliding_window"] = window;
  }
  if (get_experts(file, "llama", "num_local_experts", config)) config["model_type"] = "mixtral";
}

constexpr const char* kTypes[] = {"llama", "mistral", "mixtral"};
constexpr HfFamily kFamily = {
    .model_types = kTypes, .names = kMixtralNames, .metadata = metadata, .permuted = true, .norm_shift = 0, .config = config};

}  // namespace

extern const Architecture llama_architecture = {"llama", build, &kFamily};

}  // namespace fettle
