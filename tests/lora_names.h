// The names of a Llama's modules, for tests of what is below the model room. For tests only.
#pragma once
#include <string>
#include <utility>

#include "store/store.h"

namespace fettle {

inline LoraBase llama_lora_base(int q_heads, int k_heads, const std::string& architecture = "llama") {
  static constexpr std::pair<const char*, const char*> kParts[] = {
      {"attn_q", "self_attn.q_proj"}, {"attn_k", "self_attn.k_proj"}, {"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"},
      {"ffn_gate", "mlp.gate_proj"},  {"ffn_up", "mlp.up_proj"},      {"ffn_down", "mlp.down_proj"}};
  const auto other = [](std::string_view name, std::string_view from, std::string_view to, bool to_gguf) -> std::optional<std::string> {
    if (!name.starts_with(from)) return {};
    name.remove_prefix(from.size());
    const size_t dot = name.find('.');
    if (dot == name.npos) return {};
    for (const auto& [gguf, peft] : kParts)
      if (name.substr(dot + 1) == (to_gguf ? peft : gguf))
        return std::string(to) + std::string(name.substr(0, dot)) + "." + (to_gguf ? gguf : peft);
    return {};
  };
  LoraBase base{.architecture = architecture, .q_heads = q_heads, .k_heads = k_heads};
  base.gguf = [other](std::string_view n) -> std::optional<std::string> {
    return n == "lm_head" ? "output" : other(n, "model.layers.", "blk.", true);
  };
  base.peft = [other](std::string_view n) -> std::optional<std::string> {
    return n == "output" ? "lm_head" : other(n, "blk.", "model.layers.", false);
  };
  return base;
}

}  // namespace fettle
