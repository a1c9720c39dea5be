// SmolLM3 (Hugging Face 2025): a Llama in which every fourth layer knows no positions (Yang et al. 2025).
#include <nlohmann/json.hpp>

#include "model/decoder.h"

namespace fettle {
namespace {

constexpr size_t kEach = 4;

bool rotated(size_t layer) { return (layer + 1) % kEach != 0; }

std::unique_ptr<Network> build(Model& model) {
  DecoderStyle style(model.config);
  style.interleaved = true;
  for (size_t i = 0; i < style.layers.size(); i++) style.layers[i].rotated = rotated(i);
  return make_decoder(model, std::move(style));
}

// What GGUF does not say must be as llama.cpp takes it to be.
void metadata(const nlohmann::json& config, GgufWriter&) {
  require_silu(config);
  if (hf_boolean(config, "use_sliding_window").value_or(false)) throw refused("", "use_sliding_window has no name in GGUF's smollm3");
  const auto layers = config.find("no_rope_layers");
  if (layers == config.end() || !layers->is_array()) {
    if (hf_integer(config, "no_rope_layer_interval").value_or(kEach) != kEach)
      throw refused("", "no_rope_layer_interval is not 4, which GGUF's smollm3 cannot say");
    return;
  }
  for (size_t i = 0; i < layers->size(); i++)
    if (!(*layers)[i].is_number_integer() || ((*layers)[i] != 0) != rotated(i))
      throw refused("", "no_rope_layers is not every fourth layer, which GGUF's smollm3 cannot say");
}

void config(const Gguf&, nlohmann::json& config) { config["architectures"] = {"SmolLM3ForCausalLM"}; }

constexpr const char* kTypes[] = {"smollm3"};
constexpr HfFamily kFamily = {.model_types = kTypes, .names = {}, .metadata = metadata, .permuted = true, .config = config};

}  // namespace

extern const Architecture smollm3_architecture = {"smollm3", build, &kFamily};

}  // namespace fettle
