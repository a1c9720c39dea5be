// Texts to ids and back. For the drivers that make tokenizers.
#pragma once
#include <string_view>
#include <vector>

#include "fuzz.h"
#include "text/tokenizer.h"

namespace fettle {

inline void use_tokenizer(const Tokenizer& tokenizer, std::string_view text) {
  for (const std::vector<int>& ids : {tokenizer.encode(text), tokenizer.encode_special(text, true)}) {
    for (int id : ids)
      if (id < 0 || id >= tokenizer.size()) std::abort();
    (void)tokenizer.decode(ids, true);
    (void)tokenizer.decode(ids);
  }
}

}  // namespace fettle
