// Adapters in GGUF as llama.cpp reads and writes them (its convert_lora_to_gguf.py and llama-adapter.cpp): general.type "adapter",
// adapter.type "lora", adapter.lora.alpha, and for each linear NAME.lora_a (rank, in) and NAME.lora_b (out, rank), for experts
// stacks of these; the scale is alpha / rank. Not handled: adapted embeddings, whole norm tensors, adapters that wait for an invocation
// (aLoRA).
#include <algorithm>
#include <cmath>

#include "base/json_text.h"
#include "format/format.h"
#include "store/lora.h"

namespace fettle {
namespace {

std::vector<float> decode(const Tensor& tensor, const std::string& place) {
  std::vector<float> values(size_t(tensor.shape.count()));
  tensor.format->decode(tensor.bytes.data(), values.data(), tensor.shape.count());
  for (float v : values)
    if (!std::isfinite(v)) throw refused(place, "holds a value that is not finite", "the training that made it went wrong");
  return values;
}

void check_head(const Gguf& gguf) {
  std::string place = gguf.path().string();
  auto type = gguf.string("general.type");
  if (!type || *type != "adapter")
    throw refused(place, "is a model, not an adapter (general.type is " + printable(type.value_or("absent"), 40) + ")");
  auto kind = gguf.string("adapter.type");
  if (!kind || *kind != "lora")
    throw refused(place, "holds an adapter of type " + printable(kind.value_or("unknown"), 40) + "; only lora is read");
  if (gguf.has("adapter.alora.invocation_tokens"))
    throw refused(place, "the adapter waits for an invocation (aLoRA); that is not supported");
}

// llama.cpp takes alpha 0 as "scale by nothing", whatever the rank.
void apply_zero_alpha(LoraFile& lora) {
  if (lora.alpha != 0) return;
  lora.alpha = float(lora.pairs.front().rank);
  for (auto& pair : lora.pairs) scale_b(pair, double(pair.rank) / lora.alpha);
}

}  // namespace

LoraPair join(const std::string& name, const LoraHalves& halves, const std::string& place) {
  std::string here = place + ": adapter of " + printable(name);
  if (!halves.a || !halves.b) throw refused(here, std::string("has no matrix ") + (halves.a ? "B" : "A"), "the file is not whole");
  const Shape &a = halves.a.shape, &b = halves.b.shape;
  if (a.n != 2 || b.n != 2 || a.dim[0] != b.dim[1])
    throw refused(here, "A is " + a.text() + " and B " + b.text() + "; they should be (rank x in) and (out x rank)");
  if (std::max({a.dim[0], a.dim[1], b.dim[0]}) > INT32_MAX) throw refused(here, "is too large");
  LoraPair pair{name, int(a.dim[0]), int(a.dim[1]), int(b.dim[0]), decode(halves.a, here), decode(halves.b, here), {}};
  if (!halves.magnitude) return pair;
  if (halves.magnitude.shape.count() != b.dim[0])
    throw refused(here, "has " + halves.magnitude.shape.text() + " magnitudes for " + std::to_string(b.dim[0]) + " rows");
  pair.magnitude = decode(halves.magnitude, here);
  return pair;
}

void check_lora(const LoraFile& lora) {
  CHECK(!lora.pairs.empty(), "an adapter of nothing");
  CHECK(std::isfinite(lora.alpha) && lora.alpha > 0, "an adapter's alpha is positive");
  for (const auto& p : lora.pairs) {
    CHECK(p.rank > 0 && p.in > 0 && p.out > 0, "an adapter's sizes are positive");
    CHECK(p.magnitude.empty() || p.magnitude.size() == size_t(p.out), "magnitudes are a row's each");
    CHECK(p.a.size() == size_t(p.rank) * size_t(p.in) && p.b.size() == size_t(p.out) * size_t(p.rank),
          "an adapter's matrices have its sizes");
  }
}

void scale_b(LoraPair& pair, double factor) {
  if (factor == 1) return;
  for (float& v : pair.b) v = float(v * factor);
}

LoraFile read_lora_gguf(const fs::path& path) {
  Gguf gguf(path);
  check_head(gguf);
  auto alpha = gguf.real("adapter.lora.alpha");
  if (!alpha || *alpha < 0 || !std::isfinite(float(*alpha)))
    throw refused(path.string(), "adapter.lora.alpha is missing, negative or too large");
  LoraFile lora{.alpha = float(*alpha), .architecture = gguf.string("general.architecture").value_or("")};
  std::vector<std::string> order;
  std::map<std::string, LoraHalves> halves;
  for (const auto& [name, tensor] : gguf.tensors()) {
    bool is_a = name.ends_with(".lora_a"), is_b = name.ends_with(".lora_b");
    std::string base = name.substr(0, name.size() - (is_a || is_b ? 7 : 0));
    if (!is_a && !is_b)
      throw refused(path.string(), "tensor " + printable(name) + " is no part of a low-rank adapter; whole tensors are not supported");
    if (base == "token_embd.weight") throw refused(path.string(), "adapts the token embedding, which is not supported");
    const auto take = [&](const std::string& linear, const Tensor& matrix) {
      auto [it, is_new] = halves.try_emplace(linear);
      if (is_new) order.push_back(linear);
      (is_a ? it->second.a : it->second.b) = matrix;
    };
    const bool stack = tensor.shape.n == 3 && !expert_name(base, 0).empty();
    for (int e = 0; stack && e < tensor.shape.dim[0]; e++) take(expert_name(base, e), expert_of(tensor, e));
    if (!stack) take(base, tensor);
  }
  if (order.empty()) throw refused(path.string(), "the adapter has no tensors");
  for (const auto& name : order) lora.pairs.push_back(join(name, halves[name], path.string()));
  apply_zero_alpha(lora);
  return lora;
}

LoraFile read_lora(const fs::path& path, const LoraBase& base) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return read_lora_peft(path, base);
  if (std::string name = path.filename().string(); name == "adapter_config.json" || name == "adapter_model.safetensors")
    return read_lora_peft(path.has_parent_path() ? path.parent_path() : ".", base);
  return read_lora_gguf(path);
}

void write_lora_gguf(const fs::path& path, const LoraFile& lora) {
  check_lora(lora);
  if (std::ranges::any_of(lora.pairs, [](const LoraPair& p) { return !p.magnitude.empty(); }))
    throw refused(path.string(), "a GGUF adapter has no place for the magnitudes of DoRA",
                  "write a PEFT folder, or merge it into the model");
  // a rank-stabilised scale is alpha / sqrt(rank); said as alpha' / rank, alpha' = alpha * sqrt(rank), and what other ranks differ goes
  // into B
  double first = std::sqrt(double(lora.pairs.front().rank));
  GgufWriter writer;
  writer.set_string("general.type", "adapter");
  writer.set_string("general.architecture", lora.architecture.empty() ? "llama" : lora.architecture);
  writer.set_integer("general.file_type", 0);
  writer.set_string("adapter.type", "lora");
  writer.set_real("adapter.lora.alpha", lora.rank_stabilised ? float(lora.alpha * first) : lora.alpha);
  const Format* f32 = find_format("F32");
  LoraPair scaled;
  for (const auto& pair : lora.pairs) {
    writer.add(pair.name + ".lora_a", f32, {pair.rank, pair.in}, [&pair] { return std::as_bytes(std::span(pair.a)); });
    writer.add(pair.name + ".lora_b", f32, {pair.out, pair.rank}, [&, first] {
      double factor = lora.rank_stabilised ? std::sqrt(double(pair.rank)) / first : 1;
      if (factor == 1) return std::as_bytes(std::span(pair.b));
      scaled = pair;
      scale_b(scaled, factor);
      return std::as_bytes(std::span(std::as_const(scaled.b)));
    });
  }
  writer.write(path);
}

}  // namespace fettle
