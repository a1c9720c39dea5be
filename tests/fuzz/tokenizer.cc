// Tokenizers: the input up to the first zero byte is a tokenizer.json, or else makes a vocabulary (tokens one a line); the rest is text.
#include "text/tokenizer.h"

#include "tokens.h"

namespace {

fettle::TokenizerSpec vocabulary(std::string_view lines, size_t variant) {
  const char* const models[] = {"gpt2", "llama", "bert", "t5"};
  fettle::TokenizerSpec spec;
  spec.place = "fuzz";
  spec.model = models[variant % 4];
  spec.pre = variant % 8 < 4 ? "smollm" : "kimi-k2";
  for (const auto& line : fettle::split(lines, '\n')) {
    if (line.find(' ') != line.npos) spec.merges.push_back(line);
    spec.tokens.push_back(line);
    spec.scores.push_back(-double(spec.tokens.size()));
  }
  spec.unknown = 0;
  spec.merge_spaces = variant % 3 == 0;
  if (variant % 5 == 0) spec.charsmap = lines;
  return spec;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fettle::survives([&] {
    std::string_view input(reinterpret_cast<const char*>(data), size), text;
    if (size_t zero = input.find('\0'); zero != input.npos) text = input.substr(zero + 1), input = input.substr(0, zero);
    fettle::Tokenizer tokenizer(input.starts_with('{') ? fettle::read_tokenizer_json(input, "fuzz") : vocabulary(input, size));
    fettle::use_tokenizer(tokenizer, text);
  });
}
