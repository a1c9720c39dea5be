#include "compress/rules.h"

#include <algorithm>
#include <map>
#include <optional>

namespace fettle {
namespace {

// Mixes by name; formats that are not here are their own base. file_type: llama_ftype.
const Mix kMixes[] = {{"Q2_K", "Q2_K", 10},   {"Q2_K_S", "Q2_K", 21}, {"Q3_K_S", "Q3_K", 11},  {"Q3_K_M", "Q3_K", 12},
                      {"Q3_K_L", "Q3_K", 13}, {"Q4_K_S", "Q4_K", 14}, {"Q4_K_M", "Q4_K", 15},  {"Q5_K_S", "Q5_K", 16},
                      {"Q5_K_M", "Q5_K", 17}, {"Q6_K", "Q6_K", 18},   {"IQ4_XS", "IQ4_XS", 30}};
// A bare family name means its middle mix.
const std::map<std::string, std::string> kAliases = {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

// What stands in for a format whose blocks of 256 do not divide a row. The 4-bit values beat plain 3- and 4-bit codes of the same size.
const std::map<std::string, std::string> kSubstitutes = {{"Q2_K", "IQ4_NL"}, {"Q3_K", "IQ4_NL"}, {"IQ4_XS", "IQ4_NL"}, {"Q4_K", "Q5_0"},
                                                         {"Q5_K", "Q5_1"},   {"Q6_K", "Q8_0"},   {"TQ1_0", "IQ4_NL"},  {"TQ2_0", "IQ4_NL"}};

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::toupper(c)); });
  return text;
}

// The first and the last eighth of the layers, and every third between.
bool more_bits(int layer, int layers) {
  const int eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

struct Role {
  int layer = -1;
  std::string part;  // "attn_v", "token_embd"
};
Role role_of(const std::string& tensor) {
  Role r;
  std::string_view rest = tensor;
  if (rest.starts_with("blk.")) {
    const std::vector<std::string> parts = split(rest, '.');
    if (parts.size() >= 3 && parts[1].size() < 6 &&
        std::all_of(parts[1].begin(), parts[1].end(), [](unsigned char c) { return std::isdigit(c); }) && !parts[1].empty())
      r.layer = std::stoi(parts[1]);
    rest = parts.size() >= 3 ? std::string_view(parts[2]) : rest;
    r.part = rest;
    for (std::string_view experts : {"_exps", "_shexp"})
      if (r.part.ends_with(experts)) r.part.erase(r.part.size() - experts.size());
  } else {
    r.part = rest.substr(0, rest.find('.'));
  }
  return r;
}

std::string value_type(const std::string& mix, int layer, const Anatomy& a, const std::string& base) {
  const bool shared = a.heads_per_kv >= 4;  // few values serve many heads: more bits for them cost little
  if (mix == "Q2_K") return shared ? "Q4_K" : "Q3_K";
  if (mix == "Q2_K_S" && shared) return "Q4_K";
  if (mix == "Q3_K_M") return layer < 2 ? "Q5_K" : "Q4_K";
  if (mix == "Q3_K_L") return "Q5_K";
  if ((mix == "IQ4_NL" || mix == "IQ4_XS") && shared) return "Q5_K";
  if ((mix == "Q4_K_M" || mix == "Q5_K_M") && more_bits(layer, a.layers)) return "Q6_K";
  if (mix == "Q4_K_S" && layer < 4) return "Q5_K";
  return base;
}

std::string down_type(const std::string& mix, int layer, const Anatomy& a, const std::string& base) {
  const bool early = layer < a.layers / 8;
  if (mix == "Q2_K") return "Q3_K";
  if (mix == "Q2_K_S" && early) return "Q4_K";
  if (mix == "Q3_K_M") return layer < a.layers / 16 ? "Q5_K" : "Q4_K";
  if (mix == "Q3_K_L") return "Q5_K";
  if ((mix == "Q4_K_M" || mix == "Q5_K_M") && more_bits(layer, a.layers)) return "Q6_K";
  if (mix == "Q4_K_S" && early) return "Q5_K";
  if ((mix == "IQ4_NL" || mix == "IQ4_XS") && early && !a.importance) return "Q5_K";
  if (mix == "Q4_0" && early && a.importance) return "Q4_1";
  if (mix == "Q5_0" && early && a.importance) return "Q5_1";
  return base;
}

}  // namespace

Anatomy anatomy_of(const Gguf& file, bool importance) {
  const std::string arch = file.string("general.architecture").value_or("");
  const auto number = [&](const char* key, int64_t fallback) {
    return std::clamp<int64_t>(file.integer(arch + "." + key).value_or(fallback), 1, 1 << 20);
  };
  Anatomy a;
  a.layers = int(number("block_count", 1));
  const int64_t heads = number("attention.head_count", 1);
  a.heads_per_kv = int(heads / std::min(heads, number("attention.head_count_kv", heads)));
  a.experts = int(std::clamp<int64_t>(file.integer(arch + ".expert_count").value_or(0), 0, 1 << 20));
  a.tied = !file.find("output.weight");
  a.importance = importance;
  return a;
}

bool quantizable(const NamedTensor& t) {
  if (t.tensor.shape.n < 2 || !t.name.ends_with(".weight")) return false;
  for (const char* part : {"_norm", "ffn_gate_inp", "rope_", "position_embd", "token_types"})
    if (t.name.find(part) != std::string::npos) return false;
  return true;
}

const Format* writable(const std::string& name) {
  const Format* f = find_format(name);
  return f && f->encode ? f : nullptr;
}

const Format* kept_format(const Format* format) { return format->gguf_id < 0 ? find_format("F16") : format; }

std::vector<std::string> quantize_types() {
  std::vector<std::string> names;
  for (const Format* f : formats())
    if (f->encode && !kAliases.count(f->name)) names.push_back(f->name);
  for (const Mix& m : kMixes)
    if (std::find(names.begin(), names.end(), m.name) == names.end()) names.push_back(m.name);
  std::sort(names.begin(), names.end());
  return names;
}

Mix find_mix(const std::string& type) {
  std::string name = upper(type);
  if (name == "SAME") return {"same", "", -1};
  if (auto alias = kAliases.find(name); alias != kAliases.end()) name = alias->second;
  for (const Mix& m : kMixes)
    if (m.name == name) return m;
  if (const Format* f = writable(name)) return {f->name, f->name, f->file_type};
  if (const Format* f = find_format(name)) throw usage(std::string("fettle reads ") + f->name + " but does not write it");
  const std::vector<std::string> names = quantize_types();
  const std::optional<std::string> near = did_you_mean(name, names);
  std::string known;
  for (const std::string& n : names) known += (known.empty() ? "" : " ") + n;
  throw usage("there is no type '" + type + "'" + (near ? "; did you mean '" + *near + "'?" : ""), "the types are " + known);
}

void check_type(const std::string& type) { find_mix(type); }

std::string wanted_type(const Mix& mix, const std::string& tensor, const Anatomy& a) {
  const Role role = role_of(tensor);
  const Format* base = find_format(mix.base);
  if (base && base->group == 0) return mix.base;  // a float file is that float throughout
  if (role.part == "output" || (a.tied && role.part == "token_embd")) return mix.base == "Q8_0" ? "Q8_0" : "Q6_K";
  if (role.part == "token_embd" && mix.base.starts_with("TQ")) return "Q4_K";  // no model's embeddings are ternary
  // Beside 8 experts' feed-forward what all tokens share is small.
  if (a.experts == 8 && (role.part == "attn_v" || role.part == "attn_k") && base && base->bits_per_weight() < 8) return "Q8_0";
  if (role.part == "attn_v") return value_type(mix.name, role.layer, a, mix.base);
  if (role.part == "ffn_down") return down_type(mix.name, role.layer, a, mix.base);
  if (role.part == "attn_output" && mix.name == "Q2_K") return "Q3_K";
  if (role.part == "attn_output" && mix.name == "Q3_K_M") return "Q4_K";
  if (role.part == "attn_output" && mix.name == "Q3_K_L") return "Q5_K";
  if (role.part == "attn_qkv") {
    if (mix.name == "Q3_K_M" || mix.name == "Q3_K_L") return "Q4_K";
    if (mix.name == "Q4_K_M") return "Q5_K";
    if (mix.name == "Q5_K_M") return "Q6_K";
  }
  return mix.base;
}

const Format* fitting(const std::string& wanted, int64_t cols) {
  const std::string name = upper(wanted);
  const Format* f = writable(name);
  if (f && cols % f->block == 0) return f;
  if (auto substitute = kSubstitutes.find(name); substitute != kSubstitutes.end()) {
    f = writable(substitute->second);
    if (f && cols % f->block == 0) return f;
  } else if (!f) {
    find_mix(wanted);  // throws with a suggestion, unless it is a mix
    throw usage("'" + wanted + "' is a mix of formats; one tensor needs one format");
  }
  return find_format("F16");
}

}  // namespace fettle
