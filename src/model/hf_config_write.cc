// config.json for a GGUF: the common keys from GGUF's, then the family's own, as transformers 4 and 5 read them.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "model/hf_folder.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

// "qwen3_moe" -> "Qwen3MoeForCausalLM"
std::string class_name(const std::string& model_type) {
  std::string name;
  for (std::string part : split(model_type, '_')) {
    if (!part.empty()) part[0] = char(std::toupper(static_cast<unsigned char>(part[0])));
    name += part;
  }
  return name + "ForCausalLM";
}

std::vector<float> floats(const Tensor& t) {
  std::vector<float> values(size_t(t.shape.count()));
  t.format->decode(t.bytes.data(), values.data(), t.shape.count());
  return values;
}

// A number as people wrote it, where it lies next to one.
double tidy(double value) {
  const double whole = std::round(value);
  return std::abs(value - whole) <= 1e-3 * std::abs(value) ? whole : value;
}

// Llama 3.1's rule from its factors. Between the two ends a factor is 1 / ((1 - s) / F + s), and s is linear in the wave's frequency: two
// such factors give the line. The rule has one number too many: low_freq_factor is taken as 1.
std::optional<Json> llama3_rule(const std::vector<float>& factors, double base) {
  const double most = *std::max_element(factors.begin(), factors.end());
  const auto frequency = [&](size_t i) { return std::pow(base, -double(i) / double(factors.size())) / (2 * std::numbers::pi); };
  std::vector<std::pair<double, double>> between;  // frequency, s
  for (size_t i = 0; i < factors.size(); i++)
    if (factors[i] > 1.0001 && factors[i] < most * 0.9999)
      between.push_back({frequency(i), (1 / double(factors[i]) - 1 / most) / (1 - 1 / most)});
  if (!(most > 1) || between.empty()) return std::nullopt;
  const auto [f0, s0] = between.front();
  const auto [f1, s1] = between.back();
  double high = 4;  // Llama's own, where one point leaves the choice
  if (between.size() > 1) {
    const double at_zero = s0 - (s1 - s0) / (f1 - f0) * f0;  // -low / (high - low)
    if (!(at_zero < 0)) return std::nullopt;
    high = tidy(1 - 1 / at_zero);
  }
  const double original = tidy((s0 * (high - 1) + 1) / f0);
  for (size_t i = 0; i < factors.size(); i++) {
    const double s = std::clamp((original * frequency(i) - 1) / (high - 1), 0.0, 1.0);
    if (std::abs(1 / ((1 - s) / most + s) - factors[i]) > 1e-3 * factors[i]) return std::nullopt;
  }
  return Json{{"rope_type", "llama3"},
              {"factor", most},
              {"low_freq_factor", 1.0},
              {"high_freq_factor", high},
              {"original_max_position_embeddings", int64_t(original)}};
}

void set_rope(const Gguf& file, const std::string& arch, Json& config) {
  const double base = file.real(arch + "rope.freq_base").value_or(10000);
  config["rope_theta"] = base;
  const std::string scaling = arch + "rope.scaling.", type = file.string(scaling + "type").value_or("none");
  const auto original = file.integer(scaling + "original_context_length");
  if (const Tensor* factors = file.find("rope_freqs.weight")) {
    const auto rule = llama3_rule(floats(*factors), base);
    if (!rule)
      throw refused(file.path().string(), "its rope_freqs are not those of Llama 3, and transformers has no other way to say them");
    config["rope_scaling"] = *rule;
  } else if (const Tensor* longs = file.find("rope_factors_long.weight")) {
    config["rope_scaling"] = {{"rope_type", "longrope"},
                              {"type", "longrope"},
                              {"long_factor", floats(*longs)},
                              {"short_factor", floats(file.tensor("rope_factors_short.weight"))}};
    if (const auto magnitude = file.real(scaling + "attn_factor")) config["rope_scaling"]["attention_factor"] = *magnitude;
    if (original) config["original_max_position_embeddings"] = config["rope_scaling"]["original_max_position_embeddings"] = *original;
  } else if (type == "linear" || type == "yarn") {
    const double factor = file.real(scaling + "factor").value_or(1);
    Json& rope = config["rope_scaling"] = {{"rope_type", type}, {"factor", factor}};
    if (type == "yarn") {
      if (original) rope["original_max_position_embeddings"] = *original;
      for (const char* key : {"beta_fast", "beta_slow"})
        if (const auto value = file.real(scaling + "yarn_" + key)) rope[key] = *value;
      const double magnitude = file.real(scaling + "attn_factor").value_or(1) * file.real(scaling + "yarn_attn_factor").value_or(1);
      if (magnitude != 1) rope["attention_factor"] = magnitude * std::max(1.0, 1 + 0.1 * std::log(factor));
    }
  } else if (type != "none" && type != "longrope") {
    throw refused(file.path().string(), "positions are scaled as '" + type + "', which is not supported");
  }
}

}  // namespace

Json hf_config(const Gguf& file, const Architecture& architecture, const std::string& dtype) {
  const std::string arch = std::string(architecture.name) + ".", type = architecture.hf->model_types[0];
  const auto need = [&](const char* key) {
    const auto value = file.integer(arch + key);
    if (!value || *value < 1) throw refused(file.path().string(), arch + key + (value ? " is impossible" : " is missing"));
    return *value;
  };
  const int64_t heads = need("attention.head_count"), width = need("embedding_length");
  const int64_t head_dim = file.integer(arch + "attention.key_length").value_or(width / heads);
  Json config = {{"model_type", type},
                 {"torch_dtype", dtype},
                 {"hidden_size", width},
                 {"num_hidden_layers", need("block_count")},
                 {"num_attention_heads", heads},
                 {"num_key_value_heads", file.integer(arch + "attention.head_count_kv").value_or(heads)},
                 {"head_dim", head_dim},
                 {"vocab_size", file.tensor("token_embd.weight").shape.rows()},
                 {"max_position_embeddings", file.integer(arch + "context_length").value_or(2048)},
                 {"rms_norm_eps", file.real(arch + "attention.layer_norm_rms_epsilon").value_or(1e-5)},
                 {"attention_bias", file.find("blk.0.attn_q.bias") != nullptr},
                 {"tie_word_embeddings", file.find("output.weight") == nullptr},
                 {"initializer_range", 0.02},
                 {"use_cache", true}};
  if (const auto inner = file.integer(arch + "feed_forward_length")) config["intermediate_size"] = *inner;
  if (const auto rotated = file.integer(arch + "rope.dimension_count"); rotated && *rotated < head_dim)
    config["partial_rotary_factor"] = double(*rotated) / double(head_dim);
  set_rope(file, arch, config);
  const TokenizerSpec tokens = read_tokenizer_spec(file);
  for (const auto& [key, id] : {std::pair("bos_token_id", tokens.bos), {"eos_token_id", tokens.eos}, {"pad_token_id", tokens.pad}})
    config[key] = id >= 0 ? Json(id) : Json();
  if (architecture.hf->encoder)
    for (const char* key :
         {"num_key_value_heads", "head_dim", "rms_norm_eps", "attention_bias", "tie_word_embeddings", "use_cache", "rope_theta"})
      config.erase(key);
  if (architecture.hf->config) architecture.hf->config(file, config);
  if (!config.contains("architectures")) config["architectures"] = {class_name(config["model_type"])};
  return config;
}

}  // namespace fettle
