// What the two ways to store an adapter share. Private to store.
#pragma once
#include <string>
#include <vector>

#include "store/store.h"

namespace fettle {

LoraFile read_lora_gguf(const fs::path& path);
LoraFile read_lora_peft(const fs::path& folder, int n_heads, int n_kv_heads);

// A and B of one linear as they are found, in any order; finished by join().
struct LoraHalves {
  Tensor a, b;
};
// Decodes and checks both halves: shapes (rank, in) and (out, rank), finite values. Error{refused} naming `place`.
LoraPair join(const std::string& name, const LoraHalves& halves, const std::string& place);
// Bugs of the caller: sizes, ranks, a scale that is not positive and finite.
void check_lora(const LoraFile& lora);
// b *= factor
void scale_b(LoraPair& pair, double factor);

}  // namespace fettle
