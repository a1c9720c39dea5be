// Names of tensors in GGUF and in Hugging Face's folders. A name's numbers are taken out of it, what is left is looked up. Source: the
// tables of llama.cpp's converter (gguf-py's tensor_mapping).
#include <algorithm>
#include <cctype>

#include "model/hf_folder.h"

namespace fettle {
namespace {

constexpr HfName kCommon[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
    {"blk.{}.attn_norm", "model.layers.{}.input_layernorm"},
    {"blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"},
    {"blk.{}.attn_k", "model.layers.{}.self_attn.k_proj"},
    {"blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"},
    {"blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"},
    {"blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"},
    {"blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"},
    {"blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"},
    {"blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"},
    {"blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"},
    {"blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"},
};

constexpr size_t kMaxDigits = 6;

// "model.layers.12.mlp" -> "model.layers.{}.mlp" and "12".
struct Numbered {
  std::string pattern;
  std::vector<std::string_view> numbers;
};
Numbered numbered(std::string_view name) {
  Numbered n;
  while (true) {
    const size_t dot = name.find('.');
    const std::string_view part = name.substr(0, dot);
    const bool number = !part.empty() && part.size() <= kMaxDigits && part.find_first_not_of("0123456789") == part.npos &&
                        (part.size() == 1 || part[0] != '0');
    n.pattern += number ? "{}" : part;
    if (number) n.numbers.push_back(part);
    if (dot == name.npos) return n;
    n.pattern += '.';
    name.remove_prefix(dot + 1);
  }
}

std::optional<std::string> translate(const std::map<std::string, const char*, std::less<>>& table, std::string_view name) {
  const Numbered n = numbered(name);
  const auto found = table.find(n.pattern);
  if (found == table.end()) return std::nullopt;
  std::string text;
  size_t used = 0;
  std::string_view rest = found->second;
  for (size_t at; (at = rest.find("{}")) != rest.npos; rest.remove_prefix(at + 2)) {
    CHECK(used < n.numbers.size(), "a family's two names have other numbers");
    text.append(rest.substr(0, at)).append(n.numbers[used++]);
  }
  CHECK(used == n.numbers.size(), "a family's two names have other numbers");
  return text.append(rest);
}

}  // namespace

HfNames::HfNames(const HfFamily& family) {
  const auto add = [&](const HfName& name) {
    gguf_.emplace(name.hf, name.gguf);
    hf_.emplace(name.gguf, name.hf);
  };
  std::for_each(family.names.begin(), family.names.end(), add);
  std::for_each(std::begin(kCommon), std::end(kCommon), add);
}

std::optional<std::string> HfNames::gguf(std::string_view hf) const {
  if (auto name = translate(gguf_, hf)) return name;
  if (auto name = translate(gguf_, "model." + std::string(hf))) return name;  // saved without its head, a model has no such prefix
  for (const std::string_view prefix : {"bert.", "model."})                   // an encoder has one when it was saved with a head
    if (hf.starts_with(prefix)) return translate(gguf_, hf.substr(prefix.size()));
  return std::nullopt;
}

std::optional<std::string> HfNames::hf(std::string_view gguf) const { return translate(hf_, gguf); }

namespace {

// A word of a message, if it is a tensor's or key's name in GGUF, as the folder has it. of_config: set when it is a key of config.json.
std::string folder_word(const std::string& word, const HfNames& names, const std::string& arch, bool& of_config) {
  if (word.starts_with(arch))
    if (const char* key = hf_key(std::string_view(word).substr(arch.size()))) return of_config = true, key;
  const size_t dot = word.rfind('.');
  const std::string kind = dot == word.npos ? "" : word.substr(dot);
  if (kind == ".weight" || kind == ".bias")
    if (const auto module = names.hf(word.substr(0, dot))) return *module + kind;
  return word;
}

}  // namespace

Error in_folder_words(const Error& error, const fs::path& folder, const Architecture& architecture) {
  const HfNames names(*architecture.hf);
  bool of_config = false;
  const auto translated = [&](const std::string& text) {
    std::string out, word;
    for (size_t i = 0; i <= text.size(); i++) {
      if (i < text.size() && (std::isalnum(static_cast<unsigned char>(text[i])) || text[i] == '_' || text[i] == '.')) {
        word += text[i];
        continue;
      }
      out += folder_word(word, names, std::string(architecture.name) + ".", of_config);
      word.clear();
      if (i < text.size()) out += text[i];
    }
    return out;
  };
  const std::string root = folder.string(), what = translated(error.what());
  std::string place = error.place;
  if (place == root && of_config)
    place = (folder / "config.json").string();
  else if (place.starts_with(root + ": "))
    place = root + translated(place.substr(root.size()));
  return {error.code, place, what, error.hint};
}

}  // namespace fettle
