// Gemma 2 (Gemma Team 2024): norms before and after, soft caps on scores and logits, a window on every other layer.
#include "model/gemma.h"
#include "model/windows.h"

namespace fettle {
namespace {

constexpr int kPeriod = 2;

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style = gemma_style(model.config, true);
  set_windows(model, style, kPeriod, model.config.rope_base);
  style.attention_scale = float(model.file->real("gemma2.attention.scale").value_or(gemma_usual_scale(*model.file, "gemma2")));
  style.score_cap = float(model.file->real("gemma2.attn_logit_softcapping").value_or(50));
  model.head.soft_cap = float(model.file->real("gemma2.final_logit_softcapping").value_or(30));
  return make_decoder(model, std::move(style));
}

constexpr const char* kTypes[] = {"gemma2"};
constexpr HfFamily kFamily = {.model_types = kTypes,
                              .names = kGemmaNames,
                              .metadata = [](const nlohmann::json& c, GgufWriter& out) { gemma_metadata(c, "gemma2", kPeriod, out); },
                              .norm_shift = 1,
                              .config = [](const Gguf& file, nlohmann::json& c) { gemma_config(file, "gemma2", kPeriod, c); }};

}  // namespace

extern const Architecture gemma2_architecture = {"gemma2", build, &kFamily};

}  // namespace fettle
