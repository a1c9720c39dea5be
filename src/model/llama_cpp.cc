// Where llama.cpp computes something else of a GGUF than the model's makers do, because it does not ask the file: nothing that the file
// could say would help. Seen by running it on every family (tests/peer/families.py); as of llama-cpp-python 0.3.36.
#include <cmath>

#include "model/gemma.h"

namespace fettle {
namespace {

// Whether llama.cpp makes the shares of a token's experts add up to 1; it asks no file.
std::optional<bool> renormalizes(const std::string& architecture) {
  if (architecture == "llama" || architecture == "qwen3moe") return true;
  if (architecture == "qwen2moe" || architecture == "olmoe") return false;
  return {};
}

bool ignores_windows(const std::string& architecture) {
  for (const char* name : {"llama", "phi3", "phimoe", "qwen2", "qwen3", "qwen2moe", "qwen3moe"})
    if (architecture == name) return true;
  return false;
}

}  // namespace

std::vector<std::string> llama_cpp_differences(const Gguf& file) {
  const std::string name = file.string("general.architecture").value_or("");
  std::vector<std::string> found;
  if (!architecture_named(name)) return found;
  const auto number = [&](const char* key) { return file.integer(name + "." + key).value_or(0); };
  const auto note = [&](const std::string& what) { found.push_back("llama.cpp computes something else with this model: it " + what); };

  const int64_t context = number("context_length");
  if (ignores_windows(name))
    if (const int64_t window = number("attention.sliding_window"); window > 0 && window < context)
      note("lets a token see all before it, not the last " + std::to_string(window) + " alone (attention.sliding_window)");
  if (file.find("rope_factors_long.weight"))
    if (const int64_t original = number("rope.scaling.original_context_length"); original < context)
      note("rotates short texts by the long factors too, once its context has room for more than " + std::to_string(original) + " tokens");
  if (const auto scale = file.real(name + ".attention.scale"); scale && (name == "gemma2" || name == "gemma3"))
    if (const double usual = gemma_usual_scale(file, name); std::abs(*scale - usual) > 1e-4 * usual)
      note("scales attention by the width of heads, not by attention.scale");
  if (name == "phimoe") note("makes the shares of a token's experts add up to 1, where SparseMixer gives each its own");
  if (const auto fixed = renormalizes(name); fixed && number("expert_count") > 0)
    if (file.boolean(name + ".expert_weights_norm").value_or(*fixed) != *fixed)
      note(std::string(*fixed ? "makes" : "does not make") +
           " the shares of a token's experts add up to 1, whatever expert_weights_norm says");
  if (number("expert_count") > 0)
    for (int64_t i = 0; i < number("block_count"); i++)
      if (!file.find("blk." + std::to_string(i) + ".ffn_gate_inp.weight")) {
        found.push_back("llama.cpp does not read this model: it wants experts in every block, and block " + std::to_string(i) +
                        " has none");
        break;
      }
  if (name == "olmoe" && number("attention.head_count_kv") != number("attention.head_count"))
    found.push_back("llama.cpp does not read this model: of an OLMoE it wants as many heads of keys as of queries");
  return found;
}

}  // namespace fettle
