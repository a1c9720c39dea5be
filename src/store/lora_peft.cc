// Adapters as Hugging Face's PEFT stores them: a folder of adapter_config.json and adapter_model.safetensors. The configuration says how
// the matrices act (scale, patterns), the tensors which modules have them. Sources: PEFT's LoraConfig and its get_pattern_key. An option
// that changes what the matrices mean and is not known here is refused rather than ignored. Not handled: see refuse_options().
#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json_text.h"
#include "store/lora.h"
#include "store/pattern.h"

namespace fettle {
namespace {

using Json = nlohmann::json;
constexpr size_t kMaxConfig = 4u << 20;

// A module's layer and the rest of its name: "model.layers.3.self_attn.q_proj" is 3 and "self_attn.q_proj".
struct Module {
  int layer = -1;    // -1: not in a block
  std::string part;  // "self_attn.q_proj", "lm_head"
  std::string full;
  std::string path() const { return layer < 0 ? part : "layers." + std::to_string(layer) + "." + part; }
};
Module module_of(const std::string& full) {
  constexpr std::string_view kLayers = "model.layers.";
  Module module{-1, full, full};
  if (!full.starts_with(kLayers)) return module;
  const char *begin = full.data() + kLayers.size(), *end = full.data() + full.size();
  int layer = 0;
  const auto [at, error] = std::from_chars(begin, end, layer);
  if (error == std::errc() && at != end && *at == '.') module.layer = layer, module.part = std::string(at + 1, end);
  return module;
}

// What PEFT calls a linear of the model; Error{refused} for linears that its model has no module for.
Module peft_module(const std::string& name, const LoraBase& base, const std::string& place) {
  const auto module = name.ends_with(".weight") ? base.peft(name.substr(0, name.size() - 7)) : std::nullopt;
  if (!module) throw refused(place, "the adapter of " + printable(name) + " has no name in PEFT", "write the adapter as GGUF instead");
  return module_of(*module);
}

// Rows of B and of the magnitudes between Hugging Face's order (each head: all first halves, then all second) and GGUF's llama order (pairs
// side by side).
void permute_rows(LoraPair& pair, int heads, bool to_gguf, const std::string& place) {
  if (heads <= 0 || pair.out % (2 * heads) != 0)
    throw refused(place,
                  "the adapter of " + printable(pair.name) + " has " + std::to_string(pair.out) + " rows, which " + std::to_string(heads) +
                      " heads do not divide",
                  "the adapter was made for another model");
  const auto permute = [&](std::vector<float>& rows, int width) {
    std::vector<float> moved(rows.size());
    for (int row = 0; row < pair.out; row++) {
      const int split = int(half_split_row(row, pair.out / heads));
      int from = to_gguf ? split : row, to = to_gguf ? row : split;
      std::copy_n(&rows[size_t(from) * size_t(width)], width, &moved[size_t(to) * size_t(width)]);
    }
    rows = std::move(moved);
  };
  permute(pair.b, pair.rank);
  if (!pair.magnitude.empty()) permute(pair.magnitude, 1);
}

void permute(LoraPair& pair, const LoraBase& base, bool to_gguf, const std::string& place) {
  if (base.q_heads <= 0) return;
  if (pair.name.ends_with(".attn_q.weight")) permute_rows(pair, base.q_heads, to_gguf, place);
  if (pair.name.ends_with(".attn_k.weight")) permute_rows(pair, base.k_heads, to_gguf, place);
}

// null, false, 0, "", [] and {} switch an option off.
bool is_off(const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.empty();
}

void refuse_options(const Json& config, const std::string& place) {
  // options that change nothing for one who has the matrices: where they came from, how they were trained, which modules were asked for
  static const std::set<std::string> kHarmless = {"auto_mapping",
                                                  "base_model_name_or_path",
                                                  "revision",
                                                  "inference_mode",
                                                  "task_type",
                                                  "peft_type",
                                                  "peft_version",
                                                  "r",
                                                  "lora_alpha",
                                                  "lora_dropout",
                                                  "target_modules",
                                                  "use_rslora",
                                                  "use_dora",
                                                  "rank_pattern",
                                                  "alpha_pattern",
                                                  "layers_pattern",
                                                  "layers_to_transform",
                                                  "exclude_modules",
                                                  "megatron_config",
                                                  "megatron_core",
                                                  "eva_config",
                                                  "loftq_config",
                                                  "corda_config",
                                                  "lora_ga_config",
                                                  "qalora_group_size",
                                                  "ensure_weight_tying",
                                                  "runtime_config",
                                                  "ephemeral_gpu_offload"};
  if (!config.is_object()) throw refused(place, "is not a JSON object");
  auto type = config.value("/peft_type"_json_pointer, Json());
  if (type != "LORA") throw refused(place, "peft_type is " + printable(type.dump(), 40) + "; only LORA is read");
  for (const auto& [key, value] : config.items()) {
    if (kHarmless.count(key) || is_off(value)) continue;
    if (key == "bias") {
      if (value != "none")
        throw refused(place, "the adapter trains biases (bias is " + printable(value.dump(), 40) + "); that is not supported");
    } else if (key == "init_lora_weights") {
      // pissa, olora, corda, loftq and lora_ga start from a changed base: the matrices alone do not make the tuned model
      if (value != true && value != "gaussian" && value != "eva" && value != "orthogonal")
        throw refused(place, "init_lora_weights is " + printable(value.dump(), 40) + ", which changes the base weights as well",
                      "convert it to an ordinary adapter with PEFT first (path_initial_model_for_weight_conversion)");
    } else if (key == "modules_to_save") {
      throw refused(place, "the adapter holds whole modules (modules_to_save " + printable(value.dump(), 60) + "); that is not supported",
                    "merge it into the model with PEFT");
    } else {
      throw refused(place, "the option " + printable(key, 40) + " of PEFT is not supported");
    }
  }
}

double number(const Json& value, const std::string& what, const std::string& place) {
  if (!value.is_number() || !std::isfinite(value.get<float>()) || !(value.get<float>() > 0))
    throw refused(place, what + " must be a positive number, not " + printable(value.dump(), 40));
  return value.get<double>();
}

// rank_pattern or alpha_pattern: expressions that end a module's name, in the file's order.
class Patterns {
 public:
  Patterns(const nlohmann::ordered_json& config, const char* key, const std::string& place) {
    if (!config.contains(key) || is_off(Json(config[key]))) return;
    if (!config[key].is_object()) throw refused(place, std::string(key) + " is not an object");
    for (const auto& [expression, value] : config[key].items())
      entries_.emplace_back(Pattern("^(.*\\.)?(" + expression + ")$", place),
                            number(Json(value), std::string(key) + " of " + printable(expression), place));
  }
  double value(const std::string& module, double otherwise) const {
    for (const auto& [pattern, value] : entries_)
      if (pattern.matches(module)) return value;
    return otherwise;
  }

 private:
  std::vector<std::pair<Pattern, double>> entries_;
};

// Splits "base_model.model.MODULE.lora_A[.ADAPTER].weight"; the half is 'A', 'B', or 'M' for magnitudes ("lora_magnitude_vector", which
// need not end in .weight), or 0 for a tensor to be passed over.
std::pair<std::string, char> split_tensor_name(const std::string& name, const std::string& place) {
  std::string_view rest = name;
  if (rest.starts_with("base_model.model.")) rest.remove_prefix(17);
  if (const size_t at = rest.find(".lora_magnitude_vector"); at != rest.npos) return {std::string(rest.substr(0, at)), 'M'};
  if (rest.find("lora_embedding_") != rest.npos)
    throw refused(place, "adapts an embedding (" + printable(name) + "), which is not supported");
  for (char half : {'A', 'B'}) {
    size_t at = rest.find(std::string(".lora_") + half + ".");
    if (at != rest.npos && rest.ends_with(".weight")) return {std::string(rest.substr(0, at)), half};
  }
  if (rest.find(".base_layer.") != rest.npos) return {"", 0};
  throw refused(place, "tensor " + printable(name) + " is no part of a low-rank adapter; whole modules and biases are not supported");
}

}  // namespace

LoraFile read_lora_peft(const fs::path& folder, const LoraBase& base) {
  fs::path config_path = folder / "adapter_config.json", tensor_path = folder / "adapter_model.safetensors";
  std::string place = config_path.string(), tensor_place = tensor_path.string();
  std::error_code ignored;
  if (!fs::exists(config_path, ignored))
    throw refused(folder.string(), "has no adapter_config.json", "name a PEFT folder or a GGUF adapter");
  if (!fs::exists(tensor_path, ignored) && fs::exists(folder / "adapter_model.bin", ignored))
    throw refused(folder.string(), "holds its tensors as pickle (adapter_model.bin), which can run code when opened",
                  "save it again with PEFT: save_pretrained(FOLDER, safe_serialization=True)");
  const std::string text = read_text(config_path, kMaxConfig);
  Json config = parse_json(text, place);
  refuse_options(config, place);
  double r = number(config.value("/r"_json_pointer, Json(8)), "r", place),
         alpha = number(config.value("/lora_alpha"_json_pointer, Json(8)), "lora_alpha", place);
  const auto ordered = nlohmann::ordered_json::parse(text);  // of expressions that match the first one counts
  Patterns ranks(ordered, "rank_pattern", place), alphas(ordered, "alpha_pattern", place);
  LoraFile lora{.alpha = float(alpha), .architecture = base.architecture};
  lora.rank_stabilised = config.contains("use_rslora") && !is_off(config["use_rslora"]);

  Safetensors file(tensor_path);
  if (!file.unusable().empty()) throw refused(tensor_place, "tensor " + printable(file.unusable()[0].name) + ": " + file.unusable()[0].why);
  std::map<std::string, LoraHalves> modules;
  for (const auto& [name, tensor] : file.tensors()) {
    auto [module, half] = split_tensor_name(name, tensor_place);
    if (!half) continue;
    LoraHalves& halves = modules[module];
    Tensor& slot = half == 'A' ? halves.a : half == 'B' ? halves.b : halves.magnitude;
    if (slot)
      throw refused(tensor_place,
                    "module " + printable(module) + " has two " + (half == 'M' ? "magnitudes" : std::string("matrices ") + half));
    slot = tensor;
  }
  std::set<std::string> names;
  const bool dora = config.contains("use_dora") && !is_off(config["use_dora"]);
  for (const auto& [module, halves] : modules) {
    auto name = base.gguf(module);
    if (name) *name += ".weight";
    if (!name) throw refused(tensor_place, "adapts module " + printable(module) + ", which is not supported");
    if (!names.insert(*name).second) throw refused(tensor_place, "adapts " + *name + " twice");
    if (dora != bool(halves.magnitude))
      throw refused(tensor_place, "the adapter of " + printable(module) + (dora ? " has no magnitudes" : " has magnitudes") +
                                      ", and use_dora is " + (dora ? "true" : "false"));
    LoraPair pair = join(*name, halves, tensor_place);
    if (double said = ranks.value(module, r); said != pair.rank)
      throw refused(tensor_place, "the adapter of " + printable(module) + " has rank " + std::to_string(pair.rank) +
                                      "; adapter_config.json says " + Json(said).dump());
    scale_b(pair, alphas.value(module, alpha) / alpha);
    permute(pair, base, true, tensor_place);
    lora.pairs.push_back(std::move(pair));
  }
  if (lora.pairs.empty()) throw refused(tensor_place, "the adapter has no tensors");
  return lora;
}

namespace {

// The configuration's target_modules, and layers_to_transform where it is needed: exactly the modules that have matrices, said in the
// shortest way that PEFT understands.
void name_targets(nlohmann::ordered_json& config, const std::vector<Module>& modules) {
  std::map<int, std::set<std::string>> layers;
  for (const auto& m : modules) layers[m.layer].insert(m.part.substr(m.part.rfind('.') + 1));
  bool alike = layers.begin()->first >= 0 || layers.size() == 1;
  for (const auto& [layer, parts] : layers) alike = alike && parts == layers.begin()->second;
  std::vector<int> numbers;
  for (const auto& [layer, parts] : layers) numbers.push_back(layer);
  if (!alike) {
    auto full = nlohmann::ordered_json::array();
    for (const auto& m : modules) full.push_back(m.full);
    config["target_modules"] = full;
    return;
  }
  config["target_modules"] = layers.begin()->second;
  if (numbers.front() >= 0 && numbers.back() + 1 != int(numbers.size())) config["layers_to_transform"] = numbers;
}

// The rank that most pairs have.
int usual_rank(const std::vector<LoraPair>& pairs) {
  std::map<int, int> counts;
  for (const auto& p : pairs) counts[p.rank]++;
  return std::max_element(counts.begin(), counts.end(), [](auto& a, auto& b) { return a.second < b.second; })->first;
}

}  // namespace

void write_lora_peft(const fs::path& folder, const LoraFile& lora, const LoraBase& base, const std::string& base_name) {
  check_lora(lora);
  const auto with_magnitude = std::ranges::count_if(lora.pairs, [](const LoraPair& p) { return !p.magnitude.empty(); });
  if (with_magnitude != 0 && size_t(with_magnitude) != lora.pairs.size())
    throw refused(folder.string(), "some of the adapter's linears have magnitudes (DoRA) and some have not, which PEFT has no word for");
  std::vector<LoraPair> pairs = lora.pairs;
  const int usual = usual_rank(pairs);
  std::vector<Module> modules;
  std::vector<SafetensorsItem> tensors;
  nlohmann::ordered_json rank_pattern = nlohmann::ordered_json::object();
  for (auto& pair : pairs) {
    modules.push_back(peft_module(pair.name, base, folder.string()));
    permute(pair, base, false, folder.string());
    std::string stem = "base_model.model." + modules.back().full;
    tensors.push_back(f32_item(stem + ".lora_A.weight", {pair.rank, pair.in}, pair.a.data()));
    tensors.push_back(f32_item(stem + ".lora_B.weight", {pair.out, pair.rank}, pair.b.data()));
    if (with_magnitude) tensors.push_back(f32_item(stem + ".lora_magnitude_vector", {pair.out}, pair.magnitude.data()));
    if (pair.rank != usual) rank_pattern[modules.back().path()] = pair.rank;
  }
  // few keys: versions of PEFT refuse those that they do not know
  nlohmann::ordered_json config = {
      {"base_model_name_or_path", base_name}, {"bias", "none"}, {"fan_in_fan_out", false}, {"inference_mode", true}};
  config["init_lora_weights"] = true;
  if (lora.alpha == std::floor(lora.alpha) && lora.alpha < 1e9f)
    config["lora_alpha"] = int64_t(lora.alpha);
  else
    config["lora_alpha"] = lora.alpha;
  config["lora_dropout"] = 0.0;
  config["modules_to_save"] = nullptr;
  config["peft_type"] = "LORA";
  config["r"] = usual;
  name_targets(config, modules);
  config["task_type"] = "CAUSAL_LM";
  if (with_magnitude) config["use_dora"] = true;
  if (lora.rank_stabilised) config["use_rslora"] = true;
  if (!rank_pattern.empty()) config["rank_pattern"] = rank_pattern;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw failed(folder.string(), "cannot make the folder: " + error.message());
  write_safetensors(folder / "adapter_model.safetensors", tensors);
  write_text(folder / "adapter_config.json", config.dump(2) + "\n");
}

}  // namespace fettle
