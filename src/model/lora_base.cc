// What adapters in PEFT's form leave to the model.
#include "model/hf_folder.h"

namespace fettle {

LoraBase Model::lora_base() const {
  LoraBase base{.architecture = config.architecture};
  const HfFamily* family = architecture_named(config.architecture)->hf;
  if (!family) {
    base.gguf = base.peft = [](std::string_view) { return std::optional<std::string>(); };
    return base;
  }
  const auto names = std::make_shared<const HfNames>(*family);
  base.gguf = [names](std::string_view module) { return names->gguf(module); };
  base.peft = [names](std::string_view name) { return names->hf(name); };
  if (family->permuted) base.q_heads = config.heads, base.k_heads = config.kv_heads;
  return base;
}

LoraFile read_adapter(const fs::path& path, const Model& model) { return read_lora(path, model.lora_base()); }

}  // namespace fettle
