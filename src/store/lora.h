// What the two ways to store an adapter share. Private to store.
#pragma once
#include <string>
#include <vector>

#include "store/store.h"

namespace fettle {

LoraFile read_lora_gguf(const fs::path& path);
LoraFile read_lora_peft(const fs::path& folder, const LoraBase& base);

// A and B of one linear as they are found, in any order; finished by join().
struct LoraHalves {
  Tensor a, b, magnitude;
};
// Decodes and checks them: shapes (rank, in), (out, rank) and, where there is one, (out), finite values. Error{refused} naming `place`.
LoraPair join(const std::string& name, const LoraHalves& halves, const std::string& place);
// Bugs of the caller: sizes, ranks, a scale that is not positive and finite.
void check_lora(const LoraFile& lora);
// b *= factor
void scale_b(LoraPair& pair, double factor);

}  // namespace fettle
