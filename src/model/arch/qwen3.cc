// Qwen3 (Yang et al. 2025): a Llama whose queries and keys are normed head by head.
#include "model/decoder.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.qk_norm = QkNorm::heads;
  return make_decoder(model, std::move(style));
}

constexpr const char* kTypes[] = {"qwen3"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = {}};

}  // namespace

extern const Architecture qwen3_architecture = {"qwen3", build, &kFamily};

}  // namespace fettle
