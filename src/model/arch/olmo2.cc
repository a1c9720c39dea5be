// OLMo 2 (OLMo Team 2024): norms only after attention and feed-forward, and over all queries and all keys of a token. OLMo 3 (2025), which
// GGUF stores under its name: windows on three of four layers.
#include <nlohmann/json.hpp>

#include "model/windows.h"

namespace fettle {
namespace {

constexpr int kPeriod = 4;

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.pre_norms = false;
  style.post_norms = true;
  style.qk_norm = QkNorm::rows;
  set_windows(model, style, kPeriod, model.config.rope_base);
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  if (hf_string(config, "model_type") == "olmo3") put_windows(config, "olmo2", kPeriod, out);
}

void config(const Gguf& file, nlohmann::json& config) {
  if (file.integer("olmo2.attention.sliding_window").value_or(0) == 0) return;
  config["model_type"] = "olmo3";
  get_windows(file, "olmo2", kPeriod, config);
  // transformers would take one base for layers that see all, and its default for the others
  nlohmann::json& kinds = config["rope_parameters"];
  kinds["sliding_attention"] = {{"rope_type", "default"}};
  kinds["full_attention"] = config.value("rope_scaling", kinds["sliding_attention"]);
  for (nlohmann::json& kind : kinds) kind["rope_theta"] = config["rope_theta"];
  config.erase("rope_scaling");
}

constexpr const char* kTypes[] = {"olmo2", "olmo3"};
constexpr HfName kNames[] = {{"blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"},
                             {"blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"}};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kNames, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture olmo2_architecture = {"olmo2", build, &kFamily};

}  // namespace fettle
