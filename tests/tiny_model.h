// A whole model that a test can make in milliseconds: a two-layer Llama of random weights with a byte-level tokenizer, begin and end tokens
// and a ChatML template. It says nothing sensible, but says it deterministically. For tests only.
#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "base/base.h"
#include "store/store.h"
#include "test_blocks.h"

namespace fettle {

struct TinyModel {
  int layers = 2, d_model = 64, heads = 4, kv_heads = 2, d_ff = 128, context = 512;
  int idle_layers = 0;      // more layers, which change nothing: a model that takes longer to say the same
  int experts = 0;          // of d_ff each, two of which a row goes to: a Mixtral
  float certainty = 1;      // scale of the logits
  bool other_ends = false;  // the end tokens trade places: ids mean something else
  uint64_t seed = 1;
  const char* format = "F32";

  static constexpr int kEnd = 257,
                       kVocabulary = 259;  // 0..255 are the bytes in the order below, then <|im_start|>, <|im_end|>, <|endoftext|>

  // The 256 byte tokens as GPT-2 names them: printable bytes are themselves, the others U+0100 and up.
  static std::vector<std::string> byte_names() {
    std::vector<std::string> names;
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
      const bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      const unsigned c = plain ? b : next++;
      names.push_back(c < 128 ? std::string(1, char(c)) : std::string{char(0xC0 | c >> 6), char(0x80 | (c & 63))});
    }
    return names;
  }

  void write(const fs::path& path) const {
    GgufWriter writer;
    writer.set_string("general.architecture", "llama");
    writer.set_string("general.name", "tiny");
    const auto number = [&](const char* key, int value) { writer.set_integer(std::string("llama.") + key, uint32_t(value)); };
    number("context_length", context);
    number("embedding_length", d_model);
    number("block_count", layers + idle_layers);
    number("feed_forward_length", d_ff);
    number("attention.head_count", heads);
    number("attention.head_count_kv", kv_heads);
    number("rope.dimension_count", d_model / heads);
    number("vocab_size", kVocabulary);
    if (experts) {
      number("expert_count", experts);
      number("expert_used_count", 2);
    }
    writer.set_real("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    writer.set_real("llama.rope.freq_base", 10000);
    tokenizer(writer);
    tensors(writer);
    writer.write(path);
  }

 private:
  void tokenizer(GgufWriter& writer) const {
    std::vector<std::string> names = byte_names();
    for (const char* special : {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}) names.push_back(special);
    if (other_ends) std::swap(names[kEnd], names[kEnd + 1]);
    GgufArray types;
    for (size_t i = 0; i < names.size(); i++) types.push_back({GgufValue::Type::i32, {}, int64_t(i < 256 ? 1 : 3)});
    writer.set_string("tokenizer.ggml.model", "gpt2");
    writer.set_string("tokenizer.ggml.pre", "smollm");
    writer.set_strings("tokenizer.ggml.tokens", names);
    writer.set("tokenizer.ggml.token_type", {GgufValue::Type::array, GgufValue::Type::i32, types});
    writer.set_strings("tokenizer.ggml.merges", {});
    writer.set_integer("tokenizer.ggml.bos_token_id", 256);
    writer.set_integer("tokenizer.ggml.eos_token_id", kEnd);
    writer.set_string(
        "tokenizer.chat_template",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
  }

  void tensors(GgufWriter& writer) const {
    auto random = std::make_shared<Random>(seed);
    const auto add = [&](const std::string& name, Shape shape, float scale, float mean) {
      const Format* f = shape.n == 1 ? find_format("F32") : find_format(format);
      auto bytes = std::make_shared<std::vector<std::byte>>();
      writer.add(name, f, shape, [=] {
        std::vector<float> w(size_t(shape.count()));
        for (float& x : w) x = scale > 0 ? mean + scale * float(random->normal()) : mean;
        *bytes = test_blocks(*f, w.data(), shape.count(), f->encode ? 0 : random->below(1u << 30));
        return std::span<const std::byte>(*bytes);
      });
    };
    const auto matrix = [&](const std::string& name, int out, int in, float scale = 1, int stacked = 0) {
      add(name, stacked ? Shape{stacked, out, in} : Shape{out, in}, scale * 1.5f / std::sqrt(float(in)), 0);
    };
    const int kv = d_model / heads * kv_heads;
    add("token_embd.weight", {kVocabulary, d_model}, 1, 0);
    for (int i = 0; i < layers + idle_layers; i++) {
      const float works = i < layers ? 1 : 0;
      const std::string block = "blk." + std::to_string(i) + ".";
      add(block + "attn_norm.weight", {d_model}, works * 0.05f, 1);
      matrix(block + "attn_q.weight", d_model, d_model, works);
      matrix(block + "attn_k.weight", kv, d_model, works);
      matrix(block + "attn_v.weight", kv, d_model, works);
      matrix(block + "attn_output.weight", d_model, d_model, works);
      add(block + "ffn_norm.weight", {d_model}, works * 0.05f, 1);
      const std::string part = experts ? "_exps.weight" : ".weight";
      if (experts) matrix(block + "ffn_gate_inp.weight", experts, d_model, works);
      matrix(block + "ffn_gate" + part, d_ff, d_model, works, experts);
      matrix(block + "ffn_up" + part, d_ff, d_model, works, experts);
      matrix(block + "ffn_down" + part, d_model, d_ff, works, experts);
    }
    add("output_norm.weight", {d_model}, 0.05f, 1);
    matrix("output.weight", kVocabulary, d_model, certainty);
  }
};

}  // namespace fettle
