// The weights of a Hugging Face folder: one safetensors file, or shards with an index {"weight_map": {tensor: file}} (huggingface_hub's
// layout). The index is hostile like every file: it may name files of this folder only, and what it says is held against the shards.
// Weights that are pickled (.bin, .pt) are never opened: unpickling runs what code the file holds.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json_text.h"
#include "store/folder.h"
#include "store/store.h"

namespace fettle {
namespace {

using Json = nlohmann::json;
constexpr size_t kMaxIndex = 32u << 20, kMaxShards = 10000;
constexpr const char* kOne = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// Tensor -> name of its shard.
std::map<std::string, std::string> parse_index(std::string_view text, const std::string& place) {
  const Json index = parse_json(text, place);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw refused(place, "has no weight_map of tensors and files");
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string()) throw refused(place, "the file of tensor \"" + printable(tensor) + "\" is no text");
    const std::string& name = file.get_ref<const std::string&>();
    if (name.find_first_of("/\\") != name.npos || name.find('\0') != name.npos || name.size() > 255 || !name.ends_with(".safetensors"))
      throw refused(place, "tensor \"" + printable(tensor) + "\" lies in \"" + printable(name) + "\", which names no file of this folder");
    shards.emplace(tensor, name);
  }
  if (shards.empty()) throw refused(place, "names no tensors");
  return shards;
}

std::map<std::string, std::string> read_index(const fs::path& path) { return parse_index(read_text(path, kMaxIndex), path.string()); }

[[noreturn]] void no_weights(const fs::path& folder, size_t safetensors, bool pickle) {
  if (pickle)
    throw refused(folder.string(), "holds its weights as pickle, which can run code when opened; fettle never opens that",
                  "save it again with transformers: save_pretrained(FOLDER, safe_serialization=True)");
  if (safetensors > 1)
    throw refused(folder.string(),
                  "holds several safetensors files, but no model.safetensors.index.json that says how they belong together",
                  "the folder may be incomplete: fetch it again");
  throw refused(folder.string(), "holds no weights (model.safetensors)", "the folder may be incomplete: fetch it again");
}

// Where neither the one file nor an index has its usual name: some tools name the one file otherwise.
fs::path only_file(const fs::path& folder) {
  std::vector<fs::path> found;
  bool pickle = false;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(".safetensors") && !name.starts_with("adapter_")) found.push_back(it->path());
    for (const char* ending : {".bin", ".pt", ".pth", ".ckpt", ".pkl"}) pickle = pickle || name.ends_with(ending);
  }
  if (error) throw refused(folder.string(), system_text(error.value()));
  if (found.size() != 1) no_weights(folder, found.size(), pickle && found.empty());
  return found[0];
}

}  // namespace

std::span<const char* const> model_folder_files() {
  static constexpr const char* kNames[] = {"config.json",           "generation_config.json",  "quantize_config.json",
                                           "quant_config.json",     "tokenizer.json",          "tokenizer.model",
                                           "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                                           "chat_template.jinja",   "chat_template.json",      "model.safetensors.index.json",
                                           "modules.json",          "1_Pooling/config.json"};
  return kNames;
}

std::set<std::string> shard_names(std::string_view index, const std::string& place) {
  std::set<std::string> names;
  for (const auto& [tensor, name] : parse_index(index, place)) names.insert(name);
  if (names.size() > kMaxShards) throw refused(place, "names more than " + std::to_string(kMaxShards) + " files");
  return names;
}

std::vector<fs::path> safetensors_files(const fs::path& folder) {
  if (is_file(folder / kOne)) return {folder / kOne};
  if (!is_file(folder / kIndex)) return {only_file(folder)};
  const std::string place = (folder / kIndex).string();
  std::vector<fs::path> files;
  for (const std::string& name : shard_names(read_text(folder / kIndex, kMaxIndex), place)) {
    if (!is_file(folder / name)) throw refused(place, "names the file " + printable(name) + ", which is missing", "fetch the folder again");
    files.push_back(folder / name);
  }
  return files;
}

std::vector<Safetensors> open_safetensors(const fs::path& folder) {
  const std::vector<fs::path> files = safetensors_files(folder);
  std::map<std::string, std::string> shards;
  if (is_file(folder / kIndex) && files[0].filename() != kOne) shards = read_index(folder / kIndex);
  std::vector<Safetensors> parts;
  std::set<std::string> seen;
  for (const fs::path& file : files) {
    const Safetensors& part = parts.emplace_back(file);
    const auto check = [&](const std::string& name) {
      const std::string place = file.string() + ": tensor \"" + printable(name) + "\"";
      const auto shard = shards.find(name);
      if (shard != shards.end() && shard->second != file.filename().string())
        throw refused(place, "lies here, though the index places it in " + printable(shard->second));
      if (!seen.insert(name).second) throw refused(place, "lies in another file of the set too");
    };
    for (const NamedTensor& t : part.tensors()) check(t.name);
    for (const Safetensors::Unusable& t : part.unusable()) check(t.name);
  }
  for (const auto& [tensor, name] : shards)
    if (!seen.count(tensor))
      throw refused((folder / name).string(), "lacks the tensor \"" + printable(tensor) + "\", which the index places there",
                    "the file is another one than the index was made for: fetch the folder again");
  return parts;
}

}  // namespace fettle
