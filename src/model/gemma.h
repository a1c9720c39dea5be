// What the Gemma family shares: scaled embeddings, GELU, norms that GGUF stores with 1 added, windows on all but every n-th layer. Private
// to the room.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "model/decoder.h"

namespace fettle {

// post_norms: whether what blocks add is normed too.
DecoderStyle gemma_style(const Config& c, bool post_norms);
// What q k is scaled by in a gemma2 or gemma3 whose file does not say: 1 / sqrt(head_dim), but for the 27B models (known by their number of
// layers), which take 1 / sqrt(d_model / heads): files of llama.cpp's converter do not say so.
double gemma_usual_scale(const Gguf& file, const std::string& arch);
// The keys of windows, attention's scale and caps. period: what the file's readers take it to be.
void gemma_metadata(const nlohmann::json& config, const std::string& arch, int period, GgufWriter& out);
void gemma_config(const Gguf& file, const std::string& arch, int period, nlohmann::json& config);

constexpr HfName kGemmaNames[] = {{"blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"},
                                  {"blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm"},
                                  {"blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"}};

}  // namespace fettle
