// Scales and caps of the Gemma family, in GGUF and in config.json.
#include "model/gemma.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/windows.h"

namespace fettle {

using Json = nlohmann::json;

DecoderStyle gemma_style(const Config& c, bool post_norms) {
  DecoderStyle style(c);
  style.activation = Activation::gelu;
  style.post_norms = post_norms;
  style.embedding_scale = std::sqrt(float(c.d_model));
  return style;
}

double gemma_usual_scale(const Gguf& file, const std::string& arch) {
  const auto number = [&](const char* key) { return double(file.integer(arch + "." + key).value_or(0)); };
  const bool is_27b = number("block_count") == (arch == "gemma2" ? 46 : 62), told = file.has(arch + ".attention.key_length");
  return 1 / std::sqrt(told && !is_27b ? number("attention.key_length") : number("embedding_length") / number("attention.head_count"));
}

void gemma_metadata(const Json& config, const std::string& arch, int period, GgufWriter& out) {
  put_windows(config, arch, period, out);
  if (const auto scalar = hf_real(config, "query_pre_attn_scalar")) out.set_real(arch + ".attention.scale", float(1 / std::sqrt(*scalar)));
  for (const char* cap : {"attn_logit_softcapping", "final_logit_softcapping"})
    if (const auto value = hf_real(config, cap)) out.set_real(arch + "." + cap, float(*value));
}

void gemma_config(const Gguf& file, const std::string& arch, int period, Json& config) {
  get_windows(file, arch, period, config);
  if (const auto scale = file.real(arch + ".attention.scale")) {
    const double scalar = 1 / (*scale * *scale), whole = std::round(scalar);  // which transformers wants an integer to be
    config["query_pre_attn_scalar"] = std::abs(scalar - whole) < 1e-3 * whole ? Json(int64_t(whole)) : Json(scalar);
  }
  for (const char* cap : {"attn_logit_softcapping", "final_logit_softcapping"})
    if (const auto value = file.real(arch + "." + cap)) config[cap] = *value;
  config["hidden_activation"] = "gelu_pytorch_tanh";
}

}  // namespace fettle
