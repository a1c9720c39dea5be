// GGUF: opened, all metadata decoded, every tensor's bytes touched, the tokenizer's part read and used.
#include "store/store.h"
#include "tokens.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fettle::survives([&] {
    fettle::MemoryFile file(data, size);
    fettle::Gguf gguf(file.path());
    [[maybe_unused]] volatile std::byte sum{};
    for (const auto& [name, tensor] : gguf.tensors())
      if (!tensor.bytes.empty()) sum = tensor.bytes.front() ^ tensor.bytes.back();
    (void)gguf.metadata();
    (void)fettle::read_chat_template(gguf);
    fettle::use_tokenizer(fettle::Tokenizer(fettle::read_tokenizer_spec(gguf)), "ab a\xC3\xA9 <s>");
  });
}
