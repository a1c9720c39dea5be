// Hugging Face folders: the input is split at zero bytes into config.json, the index of shards, tokenizer.json, tokenizer_config.json and
// tokenizer.model (what is left out or empty is as in a well-formed folder of one tensor, or absent).
#include "fuzz.h"
#include "model/model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fettle;
  static const fs::path folder = [] {
    const fs::path path = fs::temp_directory_path() / ("fettle-fuzz-hf-" + std::to_string(::getpid()));
    fs::create_directories(path);
    static const std::vector<float> values(64, 1);
    write_safetensors(path / "a.safetensors", {f32_item("model.embed_tokens.weight", {8, 8}, values.data())});
    return path;
  }();
  static const char* const kNames[] = {"config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
                                       "tokenizer.model"};
  std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const char* name : kNames) {
    const size_t zero = input.find('\0');
    const std::string_view part = input.substr(0, zero);
    fs::remove(folder / name);
    if (!part.empty()) {
      std::FILE* file = std::fopen((folder / name).c_str(), "wb");
      std::fwrite(part.data(), 1, part.size(), file);
      std::fclose(file);
    }
    input = zero == input.npos ? std::string_view() : input.substr(zero + 1);
  }
  return survives([&] { (void)open_model_file(folder); });
}
