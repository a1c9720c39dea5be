// OLMo 2 (OLMo Team 2024): norms only after attention and feed-forward, and over all queries and all keys of a token.
#include "model/decoder.h"

namespace fettle {
namespace {

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.pre_norms = false;
  style.post_norms = true;
  style.qk_norm = QkNorm::rows;
  return make_decoder(model, std::move(style));
}

constexpr const char* kTypes[] = {"olmo2"};
constexpr HfName kNames[] = {{"blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"},
                             {"blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"}};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = kNames};

}  // namespace

extern const Architecture olmo2_architecture = {"olmo2", build, &kFamily};

}  // namespace fettle
