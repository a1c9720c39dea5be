// Qwen2 and 2.5 (Yang et al. 2024): a Llama with biases on q, k and v, and perhaps windows on its last layers.
#include <nlohmann/json.hpp>

#include "model/windows.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  set_listed_windows(model, style);
  return make_decoder(model, std::move(style));
}

void metadata(const nlohmann::json& config, GgufWriter& out) {
  require_silu(config);
  put_listed_windows(config, "qwen2", is_late_layer, out);
}
void config(const Gguf& file, nlohmann::json& config) { get_listed_windows(file, "qwen2", config); }

constexpr const char* kTypes[] = {"qwen2"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = {}, .metadata = metadata, .config = config};

}  // namespace

extern const Architecture qwen2_architecture = {"qwen2", build, &kFamily};

}  // namespace fettle
