#include "model/windows.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace fettle {
namespace {

using Json = nlohmann::json;

// Of so many layers, each sees all (full_attention) or not; what period that is.
int period_of(const Json& config, int usual) {
  const auto kinds = config.find("layer_types");
  if (kinds == config.end() || !kinds->is_array()) return int(hf_integer(config, "sliding_window_pattern").value_or(usual));
  const auto full = std::find(kinds->begin(), kinds->end(), "full_attention");
  const int period = int(full - kinds->begin()) + 1;
  for (int i = 0; i < int(kinds->size()); i++)
    if (((*kinds)[size_t(i)] == "full_attention") != ((i + 1) % period == 0))
      throw refused("", "layer_types has no period, GGUF cannot say it");
  return full == kinds->end() && period <= usual ? usual : period;
}

}  // namespace

int read_window(const Model& model) {
  const std::string key = model.config.architecture + ".attention.sliding_window";
  const int64_t window = model.file->integer(key).value_or(0);
  if (window < 0) throw refused(model.file->path().string(), key + " is " + std::to_string(window));
  return int(std::min<int64_t>(window, kMaxContext));
}

void set_windows(const Model& model, DecoderStyle& style, int period, float local_base) {
  const std::string pattern = model.config.architecture + ".attention.sliding_window_pattern";
  const int window = read_window(model);
  const int64_t each = model.file->integer(pattern).value_or(period);
  if (each < 1) throw refused(model.file->path().string(), pattern + " is " + std::to_string(each));
  if (!(local_base > 1 && std::isfinite(local_base)))
    throw refused(model.file->path().string(), "impossible rope base of layers with a window");
  if (window == 0) return;
  for (size_t i = 0; i < style.layers.size(); i++) {
    if ((int64_t(i) + 1) % each == 0) continue;
    DecoderLayer& layer = style.layers[i];
    layer.window = window;
    layer.rope_base = local_base;
    layer.scaled = false;
  }
}

void put_windows(const Json& config, const std::string& arch, int period, GgufWriter& out) {
  if (const auto window = hf_integer(config, "sliding_window")) out.set_integer(arch + ".attention.sliding_window", uint32_t(*window));
  if (const int said = period_of(config, period); said != period)
    out.set_integer(arch + ".attention.sliding_window_pattern", uint32_t(said));
}

void get_windows(const Gguf& file, const std::string& arch, int period, Json& config) {
  const std::string window = arch + ".attention.sliding_window";
  if (const auto tokens = file.integer(window)) config["sliding_window"] = *tokens;
  const int64_t each = file.integer(window + "_pattern").value_or(period);
  for (int64_t i = 1; i <= file.integer(arch + ".block_count").value_or(0); i++)
    config["layer_types"].push_back(i % each ? "sliding_attention" : "full_attention");
}

namespace {

// (layers) 1: the layer has a window; empty: the file has no such list.
std::vector<double> listed(const Gguf& file, const std::string& arch) {
  const std::string key = arch + ".attention.sliding_window_pattern";
  return file.integer(arch + ".attention.sliding_window").value_or(0) > 0 ? file.numbers(key) : std::vector<double>{};
}

}  // namespace

bool is_late_layer(const Json& config, int layer) { return layer >= hf_integer(config, "max_window_layers").value_or(28); }

void put_listed_windows(const Json& config, const std::string& arch, bool (*usual)(const Json& config, int layer), GgufWriter& out) {
  const auto window = hf_integer(config, "sliding_window");
  if (!hf_boolean(config, "use_sliding_window").value_or(false) || !window || *window == 0) return;
  const auto kinds = config.find("layer_types");
  const bool said = kinds != config.end() && kinds->is_array();
  if (!said && !usual)
    throw refused("", "use_sliding_window without layer_types is not supported: releases of transformers disagree on it");
  const int64_t layers = hf_integer(config, "num_hidden_layers").value_or(0);
  if (said && int64_t(kinds->size()) != layers) throw refused("", "layer_types is no list of " + std::to_string(layers));
  std::vector<bool> there;
  for (int i = 0; i < int(layers); i++) there.push_back(said ? (*kinds)[size_t(i)] == "sliding_attention" : usual(config, i));
  if (std::ranges::find(there, true) == there.end()) return;
  GgufArray list(there.size());
  for (size_t i = 0; i < there.size(); i++) list[i].type = GgufValue::Type::u8, list[i].value = uint64_t(there[i]);
  out.set_integer(arch + ".attention.sliding_window", uint32_t(*window));
  out.set(arch + ".attention.sliding_window_pattern", {GgufValue::Type::array, GgufValue::Type::u8, std::move(list)});
}

void set_listed_windows(const Model& model, DecoderStyle& style) {
  const Config& c = model.config;
  const std::vector<double> list = listed(*model.file, c.architecture);
  if (list.empty()) return;
  if (list.size() != style.layers.size())
    throw refused(model.file->path().string(),
                  c.architecture + ".attention.sliding_window_pattern is no list of " + std::to_string(style.layers.size()) + " layers");
  const int64_t window = model.file->integer(c.architecture + ".attention.sliding_window").value_or(0);
  for (size_t i = 0; i < list.size(); i++)
    if (list[i] != 0) style.layers[i].window = int(std::min<int64_t>(window, c.context));
}

void get_listed_windows(const Gguf& file, const std::string& arch, Json& config) {
  const std::vector<double> list = listed(file, arch);
  if (list.empty()) return;
  config["use_sliding_window"] = true;
  config["sliding_window"] = file.integer(arch + ".attention.sliding_window").value_or(0);
  config["max_window_layers"] = std::ranges::find(list, 1.0) - list.begin();
  for (double window : list) config["layer_types"].push_back(window != 0 ? "sliding_attention" : "full_attention");
}

}  // namespace fettle
