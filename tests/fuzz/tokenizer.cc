// Tokenizers: the input up to the first zero byte makes a vocabulary (tokens one a line), the rest is text, which must come back from its
// ids.
#include "text/tokenizer.h"

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fettle::survives([&] {
    std::string_view input(reinterpret_cast<const char*>(data), size), text;
    if (size_t zero = input.find('\0'); zero != input.npos) text = input.substr(zero + 1), input = input.substr(0, zero);
    fettle::TokenizerSpec spec;
    spec.place = "fuzz";
    spec.model = size % 2 ? "gpt2" : "llama";
    spec.pre = "smollm";
    for (const auto& line : fettle::split(input, '\n')) {
      if (line.find(' ') != line.npos) spec.merges.push_back(line);
      spec.tokens.push_back(line);
      spec.scores.push_back(-float(spec.tokens.size()));
    }
    fettle::Tokenizer tokenizer(spec);
    auto ids = tokenizer.encode(text);
    (void)tokenizer.decode(ids, true);
    (void)tokenizer.encode_special(text, true);
    for (int id : ids)
      if (id < 0 || id >= tokenizer.size()) std::abort();
  });
}
