// What sentence-transformers keeps beside a model: modules.json lists the steps from a text to its embedding, each with a folder of its
// own. Known are the model, the pooling of its states, and normalisation, which is for whoever asks for embeddings to want.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "model/hf_folder.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

constexpr const char* kModes[] = {"mean", "cls", "lasttoken"};  // in the order of Pooling
constexpr const char* kKeys[] = {"pooling_mode_mean_tokens", "pooling_mode_cls_token", "pooling_mode_lasttoken"};

// GGUF's number of the one mode that 1_Pooling/config.json has.
uint32_t pooling_type(const Json& config, const std::string& place) {
  std::vector<uint32_t> found;
  for (uint32_t i = 0; i < std::size(kKeys); i++)
    if (hf_boolean(config, kKeys[i]).value_or(false) || hf_string(config, "pooling_mode").value_or("") == kModes[i]) found.push_back(i + 1);
  for (const auto& [key, value] : config.items())
    if (key.starts_with("pooling_mode_") && value == true && std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys))
      throw refused(place, printable(key, 40) + " is not supported", "fettle pools by mean, cls and last token");
  if (found.size() != 1) throw refused(place, "does not name one way of pooling that fettle knows", "mean, cls or last token");
  return found[0];
}

}  // namespace

void put_hf_pooling(const fs::path& folder, const Architecture& architecture, GgufWriter& out) {
  const fs::path list = folder / "modules.json";
  std::error_code ignored;
  if (!fs::exists(list, ignored)) return;
  const Json modules = parse_json(read_text(list, kMaxHfConfig), list.string());
  if (!modules.is_array()) throw refused(list.string(), "is no list of modules");
  for (const Json& module : modules) {
    const std::string type = module.is_object() ? hf_string(module, "type").value_or("") : "", kind = type.substr(type.rfind('.') + 1);
    if (kind == "Transformer" || kind == "Normalize") continue;
    if (kind != "Pooling")
      throw refused(list.string(), "module '" + printable(kind, 40) + "' is not supported", "embeddings without it would be wrong");
    const fs::path path = hf_string(module, "path").value_or("");
    if (path != path.filename()) throw refused(list.string(), "the folder of a module is not beside it");
    const fs::path file = folder / path / "config.json";
    const auto config = hf_json(folder / path, "config.json");
    if (!config) throw refused(file.string(), "is missing", "fetch the folder again");
    out.set_integer(std::string(architecture.name) + ".pooling_type", pooling_type(*config, file.string()));
  }
}

void write_hf_pooling(const Gguf& file, const fs::path& folder) {
  const std::string arch = model_architecture(file);
  const int64_t pooling = file.integer(arch + ".pooling_type").value_or(0);
  if (pooling < 1 || pooling > int64_t(std::size(kKeys))) return;
  const char* const paths[] = {"", "1_Pooling", "2_Normalize"};
  const char* const kinds[] = {"Transformer", "Pooling", "Normalize"};
  Json modules = Json::array(), config = {{"word_embedding_dimension", file.integer(arch + ".embedding_length").value_or(0)}};
  for (int i = 0; i < 3; i++) {
    modules.push_back(
        {{"idx", i}, {"name", std::to_string(i)}, {"path", paths[i]}, {"type", std::string("sentence_transformers.models.") + kinds[i]}});
    config[kKeys[i]] = pooling == i + 1;
    fs::create_directory(folder / paths[i]);
  }
  write_text(folder / "modules.json", modules.dump(2) + "\n");
  write_text(folder / "1_Pooling/config.json", config.dump(2) + "\n");
}

}  // namespace fettle
