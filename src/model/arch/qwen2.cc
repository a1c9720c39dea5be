// Qwen2 and 2.5 (Yang et al. 2024): a Llama with biases on q, k and v.
#include <nlohmann/json.hpp>

#include "model/decoder.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) { return make_decoder(model, DecoderStyle(model.config)); }

void metadata(const nlohmann::json& config, GgufWriter&) {
  if (hf_boolean(config, "use_sliding_window").value_or(false)) throw refused("", "use_sliding_window has no name in GGUF's qwen2");
}

constexpr const char* kTypes[] = {"qwen2"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = {}, .metadata = metadata};

}  // namespace

extern const Architecture qwen2_architecture = {"qwen2", build, &kFamily};

}  // namespace fettle
