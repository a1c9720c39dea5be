// Gemma 3, its text models (Gemma Team 2025): queries and keys normed head by head; windows on five of six layers, which rotate to a base
// of their own.
#include <nlohmann/json.hpp>

#include "model/gemma.h"
#include "model/windows.h"

namespace fettle {
namespace {

constexpr int kPeriod = 6;
constexpr const char* kLocalBase = "gemma3.rope.freq_base_swa";

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style = gemma_style(model.config, true);
  style.qk_norm = QkNorm::heads;
  set_windows(model, style, kPeriod, float(model.file->real(kLocalBase).value_or(10000)));
  style.attention_scale = float(model.file->real("gemma3.attention.scale").value_or(gemma_usual_scale(*model.file, "gemma3")));
  model.head.soft_cap = float(model.file->real("gemma3.final_logit_softcapping").value_or(0));
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  gemma_metadata(config, "gemma3", kPeriod, out);
  if (hf_boolean(config, "use_bidirectional_attention").value_or(false)) throw refused("", "use_bidirectional_attention is not supported");
  if (hf_real(config, "attn_logit_softcapping")) throw refused("", "attn_logit_softcapping is not supported in a gemma3");
  const nlohmann::json parts = config.value("rope_parameters", nlohmann::json::object());
  const nlohmann::json local = parts.is_object() ? parts.value("sliding_attention", nlohmann::json::object()) : nlohmann::json::object();
  const double base = hf_real(local, "rope_theta").value_or(hf_real(config, "rope_local_base_freq").value_or(10000));
  if (base != 10000) out.set_real(kLocalBase, float(base));  // what readers take where nothing is said
}

void config(const Gguf& file, nlohmann::json& config) {
  gemma_config(file, "gemma3", kPeriod, config);
  config["architectures"] = {"Gemma3ForCausalLM"};
  config["rope_local_base_freq"] = file.real(kLocalBase).value_or(10000);
}

constexpr const char* kTypes[] = {"gemma3_text"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kGemmaNames, .metadata = metadata, .norm_shift = 1, .config = config};

}  // namespace

extern const Architecture gemma3_architecture = {"gemma3", build, &kFamily};

}  // namespace fettle
