// Sliding windows on all but every n-th layer, which sees everything, in GGUF's keys and config.json's. Private to the room.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "model/decoder.h"

namespace fettle {

// How many tokens a layer with a window sees, as the file says; 0: there is none. Error{refused}: an impossible number.
int read_window(const Model& model);
// Sets the windows that the file says; period: every so many layers see all, unless it says otherwise too. Layers with a window rotate
// unscaled, to `local_base`.
void set_windows(const Model& model, DecoderStyle& style, int period, float local_base);
// period: what GGUF's readers take it to be where nothing is said.
void put_windows(const nlohmann::json& config, const std::string& arch, int period, GgufWriter& out);
void get_windows(const Gguf& file, const std::string& arch, int period, nlohmann::json& config);

// Qwen's, which config.json switches on by use_sliding_window: what it says is kept layer by layer, sliding_window_pattern being a list.
// usual: the layers that have one where layer_types does not say; nullptr: that is not known, and such a folder is refused.
void put_listed_windows(const nlohmann::json& config, const std::string& arch, bool (*usual)(const nlohmann::json& config, int layer),
                        GgufWriter& out);
void set_listed_windows(const Model& model, DecoderStyle& style);
void get_listed_windows(const Gguf& file, const std::string& arch, nlohmann::json& config);
// Qwen2's and 3's usual: the layers from max_window_layers on.
bool is_late_layer(const nlohmann::json& config, int layer);

}  // namespace fettle
