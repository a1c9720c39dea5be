// safetensors: opened, every tensor's bytes touched.
#include "fuzz.h"
#include "store/store.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fettle::survives([&] {
    fettle::MemoryFile file(data, size);
    fettle::Safetensors tensors(file.path());
    [[maybe_unused]] volatile std::byte sum{};
    for (const auto& [name, tensor] : tensors.tensors()) sum = tensor.bytes.front() ^ tensor.bytes.back();
    for (const auto& tensor : tensors.raw())
      if (!tensor.bytes.empty()) sum = tensor.bytes.front() ^ tensor.bytes.back();
  });
}
