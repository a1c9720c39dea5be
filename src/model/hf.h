// What an architecture file says about its family's folders on Hugging Face, so that they are read and written without knowing the
// architecture. Source: transformers' modeling_*.py and the name tables of llama.cpp's converter.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>

#include "store/gguf.h"

namespace fettle {

// One tensor's two names, without ".weight" or ".bias": {"blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"}. The first {} is the layer, a
// second one the expert.
struct HfName {
  const char* gguf;
  const char* hf;
};

struct HfFamily {
  std::span<const char* const> model_types;  // config.json's "model_type"; what is written carries the first
  std::span<const HfName> names;             // this family's, beyond the common ones; they go before those
  // Sets this family's GGUF keys beyond the common ones. Error{refused}: what config.json says is not supported.
  void (*metadata)(const nlohmann::json& config, GgufWriter& out) = nullptr;
  bool permuted = false;  // GGUF holds the rows of q and k in interleaved order (llama)
  float norm_shift = 0;   // what GGUF's norms have more than the folder's (gemma: 1)
  // The way back: this family's keys of config.json beyond the common ones, so that transformers reads what is written.
  void (*config)(const Gguf& file, nlohmann::json& config) = nullptr;
  bool encoder = false;                      // no head; positions are no rotations and norms no RMSNorms, whose keys are common ones
  std::span<const char* const> unused = {};  // what names of tensors begin with that the model is complete without
};

// A value of config.json; absent or null: nullopt. Error{refused} naming the key where it is of another type, not finite, or an integer
// outside [0, 2^31).
std::optional<int64_t> hf_integer(const nlohmann::json& config, const char* key);
std::optional<double> hf_real(const nlohmann::json& config, const char* key);
std::optional<bool> hf_boolean(const nlohmann::json& config, const char* key);
std::optional<std::string> hf_string(const nlohmann::json& config, const char* key);

}  // namespace fettle
