// A BERT of random weights with a WordPiece vocabulary of letters, whose texts stand between [CLS] and [SEP]. For tests only.
#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "format/format.h"
#include "store/store.h"

namespace fettle {

struct TinyEncoder {
  int layers = 2, d_model = 32, heads = 4, d_ff = 48, context = 16;
  static constexpr int kUnknown = 1, kCls = 2, kSep = 3, kA = 4;  // 'a' at the beginning of a word; letters inside words follow 'z'

  void write(const fs::path& path) const {
    GgufWriter writer;
    writer.set_string("general.architecture", "bert");
    const auto number = [&](const char* key, int value) { writer.set_integer(std::string("bert.") + key, uint32_t(value)); };
    number("context_length", context);
    number("embedding_length", d_model);
    number("block_count", layers);
    number("feed_forward_length", d_ff);
    number("attention.head_count", heads);
    number("pooling_type", 1);
    writer.set("bert.attention.causal", {GgufValue::Type::boolean, {}, false});
    writer.set_real("bert.attention.layer_norm_epsilon", 1e-6f);
    std::vector<std::string> names = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
    for (const char* mark : {"\u2581", ""})
      for (char c = 'a'; c <= 'z'; c++) names.push_back(mark + std::string(1, c));
    GgufArray types;
    for (size_t i = 0; i < names.size(); i++) types.push_back({GgufValue::Type::i32, {}, int64_t(i < 4 ? 3 : 1)});
    writer.set_string("tokenizer.ggml.model", "bert");
    writer.set_strings("tokenizer.ggml.tokens", names);
    writer.set("tokenizer.ggml.token_type", {GgufValue::Type::array, GgufValue::Type::i32, types});
    writer.set_integer("tokenizer.ggml.unknown_token_id", kUnknown);
    writer.set_integer("tokenizer.ggml.cls_token_id", kCls);
    writer.set_integer("tokenizer.ggml.seperator_token_id", kSep);

    Random random(1);
    const auto add = [&](const std::string& name, Shape shape, float mean, float deviation) {
      std::vector<float> v(size_t(shape.count()));
      for (float& x : v) x = mean + deviation * float(random.normal());
      writer.add(name, find_format("F32"), shape, [v = std::move(v)] { return std::as_bytes(std::span(v)); });
    };
    const auto norm = [&](const std::string& name) {
      add(name + ".weight", {d_model}, 1, 0.1f);
      add(name + ".bias", {d_model}, 0, 0.1f);
    };
    const auto matrix = [&](const std::string& name, int out, int in) {
      add(name + ".weight", {out, in}, 0, 1.5f / std::sqrt(float(in)));
      add(name + ".bias", {out}, 0, 0.1f);
    };
    add("token_embd.weight", {int64_t(names.size()), d_model}, 0, 1);
    add("position_embd.weight", {context, d_model}, 0, 0.5f);
    add("token_types.weight", {2, d_model}, 0, 0.5f);
    norm("token_embd_norm");
    for (int i = 0; i < layers; i++) {
      const std::string block = "blk." + std::to_string(i) + ".";
      for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) matrix(block + name, d_model, d_model);
      norm(block + "attn_output_norm");
      matrix(block + "ffn_up", d_ff, d_model);
      matrix(block + "ffn_down", d_model, d_ff);
      norm(block + "layer_output_norm");
    }
    writer.write(path);
  }
};

}  // namespace fettle
