// Hugging Face folders: the first byte says whose weights they are (a fixture of tests/golden/arch; small numbers), the rest is split at
// zero bytes into config.json, the index of shards, tokenizer.json, tokenizer_config.json, generation_config.json, modules.json and
// tokenizer.model; what is left out or empty is absent. A model that opens is used.
#include <fstream>
#include <nlohmann/json.hpp>

#include "forward.h"

namespace fettle {
namespace {

fs::path golden() {
  const char* folder = std::getenv("FETTLE_GOLDEN");
  return fs::path(folder ? folder : "tests/golden") / "arch";
}

// The weights of each fixture, one file each.
const std::vector<fs::path>& weights(const fs::path& folder) {
  static const std::vector<fs::path> all = [&] {
    std::vector<fs::path> fixtures, files;
    for (const auto& entry : fs::directory_iterator(golden())) fixtures.push_back(entry.path());
    std::sort(fixtures.begin(), fixtures.end());
    for (const fs::path& fixture : fixtures) {
      const auto json = nlohmann::json::parse(std::ifstream(fixture));
      std::vector<SafetensorsItem> items;
      const std::vector<float> values(1 << 16, 0.02f);
      for (const auto& t : json["tensors"]) {
        Shape shape;
        for (const auto& d : t[1]) shape.dim[shape.n++] = d;
        if (size_t(shape.count()) > values.size()) std::abort();
        items.push_back(f32_item(t[0], shape, values.data()));
      }
      files.push_back(folder / (fixture.stem().string() + ".weights"));
      write_safetensors(files.back(), items);
    }
    return files;
  }();
  return all;
}

void use(std::string_view input) {
  static const fs::path folder = [] {
    const fs::path path = fs::temp_directory_path() / ("fettle-fuzz-hf-" + std::to_string(::getpid()));
    fs::create_directories(path / "1_Pooling");
    write_text(path / "1_Pooling/config.json", R"({"pooling_mode_mean_tokens": true})");
    return path;
  }();
  static const char* const kNames[] = {"config.json",           "model.safetensors.index.json", "tokenizer.json",
                                       "tokenizer_config.json", "generation_config.json",       "modules.json",
                                       "tokenizer.model"};
  const std::vector<fs::path>& files = weights(folder);
  const fs::path& chosen = files[uint8_t(input[0]) % files.size()];
  input.remove_prefix(1);
  for (const char* name : {"model.safetensors", "a.safetensors"}) fs::remove(folder / name);
  for (const char* name : kNames) {
    const size_t zero = name == kNames[6] ? input.npos : input.find('\0');  // the last is no text
    const std::string_view part = input.substr(0, zero);
    fs::remove(folder / name);
    if (!part.empty()) std::ofstream(folder / name, std::ios::binary).write(part.data(), std::streamsize(part.size()));
    if (name == kNames[1]) fs::create_symlink(chosen, folder / (part.empty() ? "model.safetensors" : "a.safetensors"));
    input = zero == input.npos ? std::string_view() : input.substr(zero + 1);
  }
  use_model(*Model::open(folder));
}

}  // namespace
}  // namespace fettle

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return size == 0 ? 0 : fettle::survives([&] { fettle::use({reinterpret_cast<const char*>(data), size}); });
}
