// Weights are one encoded tile of random numbers repeated: speed does not depend on values, and filling gigabytes through an encoder would
// take longer than the measurement. Shapes: the published configurations of the models they are named after; mixtral-small has Mixtral's
// proportions, moe-100x10 those of models with many small experts. NAME-dense has the active parameters of a mixture in one feed-forward:
// what its speed is to be measured by.
#include "cli/bench_shape.h"

#include <stdlib.h>

#include <cmath>
#include <cstring>
#include <map>

#include "format/format.h"

namespace fettle {
namespace {

struct Shape4 {
  const char* name;
  int layers, d_model, heads, kv_heads, d_ff, vocabulary;
  bool tied;
  int experts = 0, used = 0;  // of d_ff each
};
constexpr Shape4 kShapes[] = {
    {"smollm2-135m", 30, 576, 9, 3, 1536, 49152, true},          {"llama-1b", 16, 2048, 32, 8, 8192, 128256, true},
    {"llama-3b", 28, 3072, 24, 8, 8192, 128256, true},           {"llama-8b", 32, 4096, 32, 8, 14336, 128256, false},
    {"mixtral-small", 12, 1024, 8, 2, 3584, 32000, false, 8, 2}, {"mixtral-small-dense", 12, 1024, 8, 2, 2 * 3584, 32000, false},
    {"moe-100x10", 4, 2048, 16, 4, 768, 32000, false, 100, 10},  {"moe-100x10-dense", 4, 2048, 16, 4, 10 * 768, 32000, false},
};

const Shape4& find_shape(const std::string& name) {
  for (const Shape4& s : kShapes)
    if (name == s.name) return s;
  auto near = did_you_mean(name, shape_names());
  std::string all;
  for (const std::string& n : shape_names()) all += (all.empty() ? "" : ", ") + n;
  throw usage("--shape: '" + name + "' is not known", near ? "did you mean " + *near + "?" : "there are: " + all);
}

// Which block gets more bits in llama.cpp's mixes.
bool more_bits(int layer, int layers) { return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2; }

class Writer {
 public:
  Writer(const Shape4& shape, const std::string& type) : shape_(shape) {
    std::string plain = type;
    mixed_ = lower(type).ends_with("_k_m");
    if (mixed_) plain.resize(plain.size() - 2);
    base_ = find_format(plain);
    if (!base_ || !base_->encode)
      throw usage("--type: '" + type + "' is no format that fettle writes", "for example Q4_K_M, Q4_0, Q8_0 or F16");
  }

  // The largest format whose blocks fit the row, when the wanted one does not.
  const Format* fitting(const Format* wanted, int columns) const { return columns % wanted->block == 0 ? wanted : find_format("Q8_0"); }

  void add(const std::string& name, const Format* format, int rows, int columns, int experts = 0) {
    format = fitting(format, columns);
    fettle::Shape shape{rows, columns};
    if (rows == 1) shape = {columns};
    if (experts) shape = {experts, rows, columns};
    bytes_ += uint64_t(format->bytes_for(shape.count()));
    count(name, format, experts ? shape_.used * rows : rows, columns);
    writer_.add(name, format, shape, [this, format, shape, rows] {
      stop_if_interrupted();
      fill(format, size_t(format->bytes_for(shape.count())), rows == 1);
      return std::span<const std::byte>(buffer_);
    });
  }

  // The embedding costs a pass nothing, unless it is the head as well.
  void count(const std::string& name, const Format* format, int rows, int columns) {
    const bool block = name.starts_with("blk.") && rows > 1, head = name == (shape_.tied ? "token_embd.weight" : "output.weight");
    if (!block && !head) return;
    (block ? cost_.block_products : cost_.head_products) += double(rows) * columns;
    cost_.weight_bytes += double(format->bytes_for(int64_t(rows) * columns));
    cost_.integers |= block && format->group > 0;
  }
  PassCost cost(const Format* kv) const {
    PassCost c = cost_;
    c.add_attention({shape_.layers, shape_.kv_heads, shape_.d_model / shape_.heads}, shape_.heads, kv);
    return c;
  }
  uint64_t bytes() const { return bytes_; }

  void tensors() {
    const Format *f32 = find_format("F32"), *more = mixed_ ? find_format("Q6_K") : base_;
    const Shape4& s = shape_;
    const int kv = s.d_model / s.heads * s.kv_heads;
    add("token_embd.weight", s.tied ? more : base_, s.vocabulary, s.d_model);
    for (int i = 0; i < s.layers; i++) {
      const std::string block = "blk." + std::to_string(i) + ".";
      const Format* wide = more_bits(i, s.layers) ? more : base_;
      add(block + "attn_norm.weight", f32, 1, s.d_model);
      add(block + "attn_q.weight", base_, s.d_model, s.d_model);
      add(block + "attn_k.weight", base_, kv, s.d_model);
      add(block + "attn_v.weight", wide, kv, s.d_model);
      add(block + "attn_output.weight", base_, s.d_model, s.d_model);
      add(block + "ffn_norm.weight", f32, 1, s.d_model);
      const std::string part = s.experts ? "_exps.weight" : ".weight";
      if (s.experts) add(block + "ffn_gate_inp.weight", f32, s.experts, s.d_model);
      add(block + "ffn_gate" + part, base_, s.d_ff, s.d_model, s.experts);
      add(block + "ffn_up" + part, base_, s.d_ff, s.d_model, s.experts);
      add(block + "ffn_down" + part, wide, s.d_model, s.d_ff, s.experts);
    }
    add("output_norm.weight", f32, 1, s.d_model);
    if (!s.tied) add("output.weight", more, s.vocabulary, s.d_model);
  }

  void metadata() {
    const auto number = [&](const char* key, int value) { writer_.set_integer(std::string("llama.") + key, uint32_t(value)); };
    writer_.set_string("general.architecture", "llama");
    writer_.set_string("general.name", std::string(shape_.name) + ", random weights");
    number("context_length", 8192);
    number("embedding_length", shape_.d_model);
    number("block_count", shape_.layers);
    number("feed_forward_length", shape_.d_ff);
    number("attention.head_count", shape_.heads);
    number("attention.head_count_kv", shape_.kv_heads);
    number("rope.dimension_count", shape_.d_model / shape_.heads);
    number("vocab_size", shape_.vocabulary);
    if (shape_.experts) {
      number("expert_count", shape_.experts);
      number("expert_used_count", shape_.used);
    }
    writer_.set_real("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    writer_.set_real("llama.rope.freq_base", 500000);
    tokenizer();
  }

  void write(const fs::path& path) {
    std::error_code error;
    fs::space_info space = fs::space(path.parent_path(), error);
    if (!error && space.available < bytes_ + bytes_ / 16)
      throw failed(path.parent_path().string(),
                   "has " + format_bytes(double(space.available)) + " free, the model takes " + format_bytes(double(bytes_)),
                   "TMPDIR names another place");
    writer_.write(path);
  }

 private:
  // Byte tokens, the end token, and words without meaning up to the vocabulary's size.
  void tokenizer() {
    std::vector<std::string> names;
    GgufArray types;
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {  // as GPT-2 names bytes: printable ones are themselves, the others U+0100 and up
      const bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      const unsigned c = plain ? b : next++;
      names.push_back(c < 128 ? std::string(1, char(c)) : std::string{char(0xC0 | c >> 6), char(0x80 | (c & 63))});
    }
    names.push_back("<|end_of_text|>");
    names.push_back("wo");  // a merge, because peers expect one
    while (int(names.size()) < shape_.vocabulary) names.push_back("word" + std::to_string(names.size()));
    for (size_t i = 0; i < names.size(); i++) types.push_back({GgufValue::Type::i32, {}, int64_t(i == 256 ? 3 : 1)});
    writer_.set_string("tokenizer.ggml.model", "gpt2");
    writer_.set_string("tokenizer.ggml.pre", "llama-bpe");
    writer_.set_strings("tokenizer.ggml.tokens", names);
    writer_.set("tokenizer.ggml.token_type", {GgufValue::Type::array, GgufValue::Type::i32, types});
    writer_.set_strings("tokenizer.ggml.merges", {"w o"});
    writer_.set_integer("tokenizer.ggml.bos_token_id", 256);
    writer_.set_integer("tokenizer.ggml.eos_token_id", 256);
  }

  // One tile of encoded random numbers, repeated. Norms are ones.
  void fill(const Format* format, size_t bytes, bool norm) {
    std::vector<std::byte>& tile = tiles_[std::string(format->name) + (norm ? " norm" : "")];
    if (tile.empty()) {
      constexpr int kTile = 256 * 1024;
      Random random(7);
      std::vector<float> weights(kTile);
      float scale = 1 / std::sqrt(float(shape_.d_model));
      for (float& w : weights) w = norm ? 1 : scale * float(random.normal());
      tile.resize(size_t(format->bytes_for(kTile)));
      format->encode(weights.data(), tile.data(), kTile, nullptr);
    }
    buffer_.resize(bytes);
    for (size_t at = 0; at < bytes; at += tile.size()) std::memcpy(buffer_.data() + at, tile.data(), std::min(tile.size(), bytes - at));
  }

  const Shape4& shape_;
  const Format* base_ = nullptr;
  bool mixed_ = false;
  uint64_t bytes_ = 0;
  PassCost cost_;
  GgufWriter writer_;
  std::vector<std::byte> buffer_;
  std::map<std::string, std::vector<std::byte>> tiles_;
};

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const Shape4& s : kShapes) names.push_back(s.name);
  return names;
}

ShapePlan plan_shape(const std::string& shape, const std::string& type, const Format* kv) {
  Writer writer(find_shape(shape), type);
  writer.tensors();
  return {writer.cost(kv), writer.bytes()};
}

void write_shape(const std::string& shape, const std::string& type, const fs::path& path) {
  Writer writer(find_shape(shape), type);
  writer.metadata();
  writer.tensors();
  writer.write(path);
}

ScratchFolder::ScratchFolder() {
  std::string name = (fs::temp_directory_path() / "fettle-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw failed(name, "could not be made", "TMPDIR names another place for temporary files");
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace fettle
