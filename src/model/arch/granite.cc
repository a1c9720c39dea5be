// Granite 3 (IBM 2024): a Llama with factors on embeddings, attention, what blocks add, and logits.
#include <nlohmann/json.hpp>

#include "model/decoder.h"

namespace fettle {
namespace {

// A factor's two names.
struct Factor {
  const char *gguf, *hf;
};
constexpr Factor kFactors[] = {{"granite.embedding_scale", "embedding_multiplier"},
                               {"granite.residual_scale", "residual_multiplier"},
                               {"granite.attention.scale", "attention_multiplier"},
                               {"granite.logit_scale", "logits_scaling"}};

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.interleaved = true;
  float divisor = 1;
  float* const values[] = {&style.embedding_scale, &style.residual_scale, &style.attention_scale, &divisor};
  for (size_t i = 0; i < 4; i++) {
    const double value = model.file->real(kFactors[i].gguf).value_or(double(*values[i]));
    if (value != 0) *values[i] = float(value);  // 0: none
  }
  style.output_scale = 1 / divisor;
  if (!model.file->boolean("granite.rope.scaling.finetuned").value_or(true))  // GGUF's way to say that there are no positions
    for (DecoderLayer& layer : style.layers) layer.rotated = false;
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  for (const Factor& f : kFactors) out.set_real(f.gguf, float(hf_real(config, f.hf).value_or(1)));
}

void config(const Gguf& file, nlohmann::json& config) {
  for (const Factor& f : kFactors)
    if (const std::optional<double> value = file.real(f.gguf)) config[f.hf] = *value;
}

constexpr const char* kTypes[] = {"granite"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = {}, .metadata = metadata, .permuted = true, .config = config};

}  // namespace

extern const Architecture granite_architecture = {"granite", build, &kFamily};

}  // namespace fettle
