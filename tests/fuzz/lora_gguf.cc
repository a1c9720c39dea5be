// Adapters in GGUF: read whole.
#include "fuzz.h"
#include "store/store.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fettle::survives([&] {
    fettle::MemoryFile file(data, size);
    (void)fettle::read_lora(file.path(), {});
  });
}
