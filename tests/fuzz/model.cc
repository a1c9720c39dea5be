// Models: the input is the head of a GGUF (its metadata and its table of tensors); what its tensors hold is one small number over and over,
// whatever their type. A model that opens is used.
#include "forward.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fettle::survives([&] {
    std::vector<uint8_t> bytes(data, data + size);
    bytes.resize((size + 31) / 32 * 32 + (256 << 10), 0x3c);
    fettle::MemoryFile file(bytes.data(), bytes.size());
    fettle::use_model(*fettle::Model::open(file.path()));
  });
}
