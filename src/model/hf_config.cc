// config.json of a Hugging Face folder: typed access, and what all decoder-only families say in it alike. Positions that are scaled become
// the keys and tensors that GGUF has for them; transformers 5 says rope_parameters where older files say rope_theta and rope_scaling.
// Sources: transformers' modeling_rope_utils.py, llama.cpp's converter.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/json_text.h"
#include "model/decoder.h"
#include "model/hf_folder.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

// nullptr: absent or null.
const Json* value_of(const Json& config, const char* key) {
  const auto it = config.is_object() ? config.find(key) : config.end();
  return !config.is_object() || it == config.end() || it->is_null() ? nullptr : &*it;
}

// The opener of the folder adds the place.
[[noreturn]] void wrong(const char* key, const char* wanted) { throw refused("", std::string(key) + " is not " + wanted); }

int64_t required(const Json& config, const char* key) {
  const auto value = hf_integer(config, key);
  if (!value) throw refused("", std::string(key) + " is missing");
  if (*value == 0) wrong(key, "above 0");
  return *value;
}

int64_t head_dim(const Json& config) {
  const int64_t said = hf_integer(config, "head_dim").value_or(0);
  const int64_t dim = said > 0 ? said : required(config, "hidden_size") / required(config, "num_attention_heads");
  if (dim < 1 || dim > 1 << 16) wrong("head_dim", "of a sensible size");
  return dim;
}

// What is said of rotary positions; an empty object: nothing.
Json rope_of(const Json& config) {
  Json rope = Json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const Json* said = value_of(config, key)) {
      if (!said->is_object()) wrong(key, "an object");
      rope.update(*said);
    }
  // where kinds of layers rotate differently, GGUF's common keys are those of layers that see all
  if (const Json* full = value_of(rope, "full_attention")) rope = full->is_object() ? *full : Json::object();
  if (!value_of(rope, "rope_theta") && value_of(config, "rope_theta")) rope["rope_theta"] = config["rope_theta"];
  return rope;
}

// How many numbers of a head are rotated.
int64_t rotated(const Json& config) {
  const double part = hf_real(rope_of(config), "partial_rotary_factor").value_or(hf_real(config, "partial_rotary_factor").value_or(1));
  if (!(part > 0 && part <= 1)) wrong("partial_rotary_factor", "above 0 and at most 1");
  return int64_t(double(head_dim(config)) * part);
}

std::string rope_type(const Json& rope) {
  std::string type = hf_string(rope, "rope_type").value_or(hf_string(rope, "type").value_or("default"));
  return type == "su" ? "longrope" : type;  // its name in Phi-3's first files
}

double positive(const Json& object, const char* key, std::optional<double> fallback = std::nullopt) {
  const auto value = hf_real(object, key);
  if (!value && !fallback) throw refused("", std::string("the scaling of positions lacks ") + key);
  if (value && !(*value > 0)) wrong(key, "above 0");
  return value.value_or(*fallback);
}

double original_context(const Json& config, const Json& rope) {
  const char* key = "original_max_position_embeddings";
  const double tokens = positive(rope, key, positive(config, key, positive(config, "max_position_embeddings", 2048)));
  if (tokens > double(INT32_MAX)) wrong(key, "below 2^31");
  return tokens;
}

// longrope: what activations are multiplied by.
double longrope_magnitude(const Json& config, const Json& rope) {
  if (value_of(rope, "attention_factor")) return positive(rope, "attention_factor");
  const double original = original_context(config, rope);
  const double factor = positive(rope, "factor", positive(config, "max_position_embeddings", original) / original);
  return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
}

void put_rope(const Json& config, const std::string& arch, GgufWriter& out) {
  const Json rope = rope_of(config);
  const std::string type = rope_type(rope), scaling = arch + "rope.scaling.";
  const auto real = [&](const char* key, double value) { out.set_real(scaling + key, float(value)); };
  out.set_real(arch + "rope.freq_base", float(positive(rope, "rope_theta", 10000)));
  out.set_integer(arch + "rope.dimension_count", uint32_t(rotated(config)));
  if (type == "default" || type == "llama3") return;
  if (type == "linear") {
    out.set_string(scaling + "type", "linear");
    real("factor", positive(rope, "factor"));
  } else if (type == "yarn") {
    const double factor = positive(rope, "factor");
    out.set_string(scaling + "type", "yarn");
    real("factor", factor);
    out.set_integer(scaling + "original_context_length", uint32_t(original_context(config, rope)));
    if (value_of(rope, "beta_fast")) real("yarn_beta_fast", positive(rope, "beta_fast"));
    if (value_of(rope, "beta_slow")) real("yarn_beta_slow", positive(rope, "beta_slow"));
    // GGUF's is a factor beside the usual one
    if (value_of(rope, "attention_factor"))
      real("attn_factor", positive(rope, "attention_factor") / std::max(1.0, 1 + 0.1 * std::log(factor)));
    else if (value_of(rope, "mscale") || value_of(rope, "mscale_all_dim"))
      throw refused("", "rope_scaling has mscale, which is not supported");
  } else if (type == "longrope") {
    out.set_integer(scaling + "original_context_length", uint32_t(original_context(config, rope)));
    real("attn_factor", longrope_magnitude(config, rope));
  } else {
    throw refused("", "positions are scaled as '" + printable(type, 40) + "', which is not supported",
                  "running it without would give wrong answers");
  }
}

// Llama 3.1: long waves are stretched by `factor`, short ones not, those between in part.
std::vector<float> llama3_factors(const Json& config, const Json& rope) {
  const double base = positive(rope, "rope_theta", 10000), factor = positive(rope, "factor"), low = positive(rope, "low_freq_factor", 1),
               high = positive(rope, "high_freq_factor", 4), original = original_context(config, rope);
  if (!(high > low)) throw refused("", "high_freq_factor is not above low_freq_factor");
  const int64_t dims = rotated(config);
  std::vector<float> factors;
  for (int64_t i = 0; i + 1 < dims; i += 2) {
    const double wave = 2 * std::numbers::pi * std::pow(base, double(i) / double(dims));
    const double smooth = std::clamp((original / wave - low) / (high - low), 0.0, 1.0);
    factors.push_back(float(1 / ((1 - smooth) / factor + smooth)));
  }
  return factors;
}

std::vector<float> factor_list(const Json& config, const Json& rope, const char* key) {
  const Json* list = value_of(rope, key);
  if (!list || !list->is_array() || int64_t(list->size()) != rotated(config) / 2)
    throw refused("", std::string(key) + " is not a list of " + std::to_string(rotated(config) / 2) + " numbers");
  std::vector<float> factors;
  for (const Json& f : *list) {
    if (!f.is_number() || !std::isfinite(f.get<float>()) || !(f.get<float>() > 0)) wrong(key, "a list of positive numbers");
    factors.push_back(f.get<float>());
  }
  return factors;
}

}  // namespace

std::optional<int64_t> hf_integer(const Json& config, const char* key) {
  const Json* v = value_of(config, key);
  if (!v) return std::nullopt;
  // some writers put 8.0
  if (!v->is_number() || !(v->get<double>() >= 0 && v->get<double>() <= double(INT32_MAX)) ||
      std::floor(v->get<double>()) != v->get<double>())
    wrong(key, "an integer from 0 to 2^31 - 1");
  return int64_t(v->get<double>());
}

std::optional<double> hf_real(const Json& config, const char* key) {
  const Json* v = value_of(config, key);
  if (!v) return std::nullopt;
  if (!v->is_number() || !std::isfinite(v->get<double>())) wrong(key, "a finite number");
  return v->get<double>();
}

std::optional<bool> hf_boolean(const Json& config, const char* key) {
  const Json* v = value_of(config, key);
  if (!v) return std::nullopt;
  if (!v->is_boolean()) wrong(key, "true or false");
  return v->get<bool>();
}

std::optional<std::string> hf_string(const Json& config, const char* key) {
  const Json* v = value_of(config, key);
  if (!v) return std::nullopt;
  if (!v->is_string()) wrong(key, "a text");
  return v->get<std::string>();
}

std::optional<Json> hf_json(const fs::path& folder, const char* name, size_t limit) {
  std::error_code ignored;
  const fs::path path = folder / name;
  if (!fs::exists(path, ignored)) return std::nullopt;
  Json json = parse_json(read_text(path, limit), path.string());
  if (!json.is_object()) throw refused(path.string(), "is not a JSON object");
  return json;
}

const Architecture& hf_architecture(const Json& config, const std::string& place) {
  const std::string type = hf_string(config, "model_type").value_or("");
  if (type.empty()) throw refused(place, "says no model_type");
  std::string known;
  for (const Architecture* a : architectures()) {
    if (!a->hf) continue;
    for (const char* t : a->hf->model_types) {
      if (type == t) return *a;
      known += (known.empty() ? "" : ", ") + std::string(t);
    }
  }
  throw refused(place, "model_type '" + printable(type, 40) + "' is not supported", "fettle knows " + known);
}

void require_silu(const Json& config) {
  if (const std::string activation = hf_string(config, "hidden_act").value_or("silu"); activation != "silu" && activation != "swish")
    throw refused("", "hidden_act is '" + printable(activation, 40) + "', this family's is silu");
}

const char* hf_key(std::string_view key) {
  static constexpr std::pair<std::string_view, const char*> kKeys[] = {
      {"block_count", "num_hidden_layers"},
      {"context_length", "max_position_embeddings"},
      {"embedding_length", "hidden_size"},
      {"feed_forward_length", "intermediate_size"},
      {"attention.head_count", "num_attention_heads"},
      {"attention.head_count_kv", "num_key_value_heads"},
      {"attention.key_length", "head_dim"},
      {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
      {"attention.layer_norm_epsilon", "layer_norm_eps"},
      {"attention.sliding_window", "sliding_window"},
      {"rope.freq_base", "rope_theta"},
      {"rope.dimension_count", "partial_rotary_factor"},
      {"expert_count", "num_experts"},
      {"expert_used_count", "num_experts_per_tok"},
      {"expert_feed_forward_length", "moe_intermediate_size"},
      {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"}};
  const auto found = std::ranges::find(kKeys, key, &std::pair<std::string_view, const char*>::first);
  return found == std::end(kKeys) ? nullptr : found->second;
}

void put_hf_config(const Json& config, const Architecture& architecture, GgufWriter& out) {
  const std::string arch = std::string(architecture.name) + ".";
  const auto integer = [&](const char* key, std::optional<int64_t> value) {
    if (value) out.set_integer(arch + key, uint32_t(*value));
  };
  const int64_t heads = required(config, "num_attention_heads"), width = required(config, "hidden_size");
  integer("block_count", required(config, "num_hidden_layers"));
  integer("context_length", hf_integer(config, "max_position_embeddings"));
  integer("embedding_length", width);
  integer("feed_forward_length", hf_integer(config, "intermediate_size"));
  integer("attention.head_count", heads);
  integer("attention.head_count_kv", hf_integer(config, "num_key_value_heads").value_or(heads));
  integer("vocab_size", hf_integer(config, "vocab_size"));
  if (width % heads || head_dim(config) != width / heads) {
    integer("attention.key_length", head_dim(config));
    integer("attention.value_length", head_dim(config));
  }
  if (!architecture.hf->encoder) {
    out.set_real(arch + "attention.layer_norm_rms_epsilon", float(hf_real(config, "rms_norm_eps").value_or(1e-6)));
    put_rope(config, arch, out);
  }
  if (architecture.hf->metadata) architecture.hf->metadata(config, out);
}

std::vector<MadeTensor> hf_rope_tensors(const Json& config) {
  const Json rope = rope_of(config);
  const std::string type = rope_type(rope);
  if (type == "llama3") return {{"rope_freqs.weight", llama3_factors(config, rope)}};
  if (type == "longrope")
    return {{"rope_factors_long.weight", factor_list(config, rope, "long_factor")},
            {"rope_factors_short.weight", factor_list(config, rope, "short_factor")}};
  return {};
}

}  // namespace fettle
