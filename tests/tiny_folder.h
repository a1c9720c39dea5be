// A tiny model's GGUF as the folder on Hugging Face that it would have been converted from, written without the program's own writer: what
// reads folders is tested against this. For tests only.
#pragma once
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "format/format.h"
#include "tiny_model.h"

namespace fettle {

struct TinyFolder {
  nlohmann::json config, tokenizer, tokenizer_config, generation_config;
  std::vector<SafetensorsItem> items;

  // The weights stay in `gguf`, which outlives this.
  explicit TinyFolder(const Gguf& gguf) {
    const auto integer = [&](const char* key) { return gguf.integer(std::string("llama.") + key).value(); };
    const int64_t heads = integer("attention.head_count"), kv_heads = integer("attention.head_count_kv");
    config = {{"model_type", "llama"},
              {"architectures", {"LlamaForCausalLM"}},
              {"hidden_size", integer("embedding_length")},
              {"intermediate_size", integer("feed_forward_length")},
              {"num_hidden_layers", integer("block_count")},
              {"num_attention_heads", heads},
              {"num_key_value_heads", kv_heads},
              {"vocab_size", integer("vocab_size")},
              {"max_position_embeddings", integer("context_length")},
              {"rms_norm_eps", 1e-5},
              {"rope_theta", 10000.0},
              {"hidden_act", "silu"},
              {"tie_word_embeddings", false}};
    const std::vector<std::string> names = gguf.strings("tokenizer.ggml.tokens");
    nlohmann::json vocab, added = nlohmann::json::array();
    for (size_t i = 0; i < names.size(); i++) {
      if (i < 256)
        vocab[names[i]] = i;
      else
        added.push_back({{"id", i}, {"content", names[i]}, {"special", true}, {"normalized", false}});
    }
    tokenizer = {{"version", "1.0"},
                 {"normalizer", nullptr},
                 {"added_tokens", added},
                 {"pre_tokenizer",
                  {{"type", "Sequence"},
                   {"pretokenizers",
                    {{{"type", "Digits"}, {"individual_digits", true}},
                     {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}}}}},
                 {"post_processor", nullptr},
                 {"decoder", {{"type", "ByteLevel"}}},
                 {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
    tokenizer_config = {{"bos_token", names[256]},
                        {"eos_token", {{"content", names[TinyModel::kEnd]}}},
                        {"chat_template", gguf.string("tokenizer.chat_template").value()}};
    generation_config = {{"eos_token_id", {TinyModel::kEnd, TinyModel::kEnd + 1}}};
    for (const NamedTensor& t : gguf.tensors())
      add(hf_name(t.name), t.tensor, t.name.find("attn_q") != t.name.npos ? heads : t.name.find("attn_k") != t.name.npos ? kv_heads : 0);
  }

  void write(const fs::path& folder) const {
    fs::create_directories(folder);
    write_text(folder / "config.json", config.dump());
    write_text(folder / "tokenizer.json", tokenizer.dump());
    write_text(folder / "tokenizer_config.json", tokenizer_config.dump());
    write_text(folder / "generation_config.json", generation_config.dump());
    write_safetensors(folder / "model.safetensors", items);
  }

  // heads > 0: rows are those of q or k, in GGUF's order.
  void add(const std::string& name, const Tensor& t, int64_t heads = 0) {
    auto bytes = std::make_shared<std::vector<std::byte>>(t.bytes.begin(), t.bytes.end());
    if (heads > 0) {
      const size_t row = t.bytes.size() / size_t(t.shape.rows()), dim = size_t(t.shape.rows() / heads);
      for (size_t head = 0; head < size_t(heads); head++)
        for (size_t half = 0; half < 2; half++)
          for (size_t i = 0; i < dim / 2; i++)
            std::memcpy(bytes->data() + (head * dim + half * dim / 2 + i) * row, t.bytes.data() + (head * dim + 2 * i + half) * row, row);
    }
    items.push_back({name, t.format->name, t.shape, [bytes] { return std::span<const std::byte>(*bytes); }});
  }

 private:
  static std::string hf_name(const std::string& name) {
    static const std::map<std::string, std::string> parts = {
        {"attn_norm", "input_layernorm"}, {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"},   {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
        {"ffn_gate", "mlp.gate_proj"},    {"ffn_up", "mlp.up_proj"},           {"ffn_down", "mlp.down_proj"}};
    if (name == "token_embd.weight") return "model.embed_tokens.weight";
    if (name == "output_norm.weight") return "model.norm.weight";
    if (name == "output.weight") return "lm_head.weight";
    const size_t dot = name.find('.', 4), end = name.rfind('.');
    return "model.layers." + name.substr(4, dot - 3) + parts.at(name.substr(dot + 1, end - dot - 1)) + name.substr(end);
  }
};

}  // namespace fettle
