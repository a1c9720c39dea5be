// Qwen3 (Yang et al. 2025): a Llama whose queries and keys are normed head by head; perhaps windows on its last layers.
#include <nlohmann/json.hpp>

#include "model/windows.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.qk_norm = QkNorm::heads;
  set_listed_windows(model, style);
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  put_listed_windows(config, "qwen3", is_late_layer, out);
}
void config(const Gguf& file, nlohmann::json& config) { get_listed_windows(file, "qwen3", config); }

constexpr const char* kTypes[] = {"qwen3"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = {}, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture qwen3_architecture = {"qwen3", build, &kFamily};

}  // namespace fettle
