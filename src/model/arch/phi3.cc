// Phi-3, 3.5 and 4-mini (Abdin et al. 2024): a Llama whose q, k and v are one linear, and gate and up another; long contexts by LongRoPE.
#include <nlohmann/json.hpp>

#include "model/windows.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.fused = true;
  for (DecoderLayer& layer : style.layers) layer.window = read_window(model);
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  out.set_integer("phi3.attention.sliding_window", uint32_t(hf_integer(config, "sliding_window").value_or(0)));
}

void config(const Gguf& file, nlohmann::json& config) {
  if (const int64_t window = file.integer("phi3.attention.sliding_window").value_or(0)) config["sliding_window"] = window;
}

constexpr const char* kTypes[] = {"phi3"};
constexpr HfName kNames[] = {{"blk.{}.attn_qkv", "model.layers.{}.self_attn.qkv_proj"},
                             {"blk.{}.ffn_up", "model.layers.{}.mlp.gate_up_proj"}};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kNames, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture phi3_architecture = {"phi3", build, &kFamily};

}  // namespace fettle
