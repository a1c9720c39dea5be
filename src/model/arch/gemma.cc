// Gemma (Gemma Team 2024): a Llama with GELU and scaled embeddings.
#include "model/gemma.h"

namespace fettle {
namespace {

constexpr const char* kTypes[] = {"gemma"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = {}, .norm_shift = 1};

}  // namespace

extern const Architecture gemma_architecture = {
    "gemma", [](Model& model) -> std::unique_ptr<Network> { return make_decoder(model, gemma_style(model.config, false)); }, &kFamily};

}  // namespace fettle
