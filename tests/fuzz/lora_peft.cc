// PEFT folders: the input is the configuration; the tensors are the golden ones ($FETTLE_GOLDEN/peft/patterns).
#include "../lora_names.h"
#include "fuzz.h"
#include "store/store.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fettle::fs::path folder = [] {
    const char* golden = std::getenv("FETTLE_GOLDEN");
    fettle::fs::path path = fettle::fs::temp_directory_path() / ("fettle-fuzz-" + std::to_string(::getpid()));
    fettle::fs::create_directories(path);
    fettle::fs::copy_file(fettle::fs::path(golden ? golden : "tests/golden") / "peft/patterns/adapter_model.safetensors",
                          path / "adapter_model.safetensors", fettle::fs::copy_options::overwrite_existing);
    return path;
  }();
  return fettle::survives([&] {
    fettle::MemoryFile file(data, size);
    fettle::fs::remove(folder / "adapter_config.json");
    fettle::fs::create_symlink(file.path(), folder / "adapter_config.json");
    (void)fettle::read_lora(folder, fettle::llama_lora_base(2, 1));
  });
}
