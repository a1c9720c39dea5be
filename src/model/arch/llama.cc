// Llama (Touvron et al. 2023) and what GGUF stores under its name: Llama 2 and 3, Mistral, SmolLM2. GGUF orders the rows of q and k so that
// rotated pairs lie side by side.
#include "model/decoder.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  const Gguf& file = *model.file;
  if (file.integer("llama.expert_count").value_or(0) > 0)
    throw refused(file.path().string(), "a Llama with experts (Mixtral) is not supported");
  DecoderStyle style(model.config);
  style.interleaved = true;
  for (DecoderLayer& layer : style.layers) layer.window = int(file.integer("llama.attention.sliding_window").value_or(0));
  return make_decoder(model, std::move(style));
}

constexpr const char* kTypes[] = {"llama", "mistral"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = {}, .permuted = true};

}  // namespace

extern const Architecture llama_architecture = {"llama", build, &kFamily};

}  // namespace fettle
