// Merging an adapter into its base: W + scale B A in f32, row by row, then encoded; one tensor in memory at a time. What the adapter does
// not touch is copied bit for bit.
#include <algorithm>
#include <cmath>
#include <map>

#include "compress/rows.h"
#include "compress/rules.h"

namespace fettle {
namespace {

// "same": the tensor's own format, or what a file keeps it as.
const Format* merged_format(const NamedTensor& t, const std::string& type) {
  const bool same = lower(type) == "same";
  const Format* f = same ? kept_format(t.tensor.format) : find_format(type);
  if (!f) {
    find_mix(type);  // throws with a suggestion, unless it is a mix
    throw usage("'" + type + "' is a mix of formats; merge to F16 or Q8_0 and quantize that");
  }
  if (!f->encode) throw usage(std::string("fettle reads ") + f->name + " but does not write it", "merge to F16 and quantize that");
  if (t.tensor.shape.cols() % f->block)
    throw usage("rows of " + std::to_string(t.tensor.shape.cols()) + " (" + t.name + ") do not divide by " + std::to_string(f->block) +
                    ", which " + f->name + " needs",
                "merge to F16 or Q8_0");
  return f;
}

int file_type_of(const std::vector<std::pair<const Format*, int64_t>>& parts) {
  std::map<int, int64_t> weights;
  for (auto [format, count] : parts) weights[format->file_type] += count;
  return std::max_element(weights.begin(), weights.end(), [](const auto& a, const auto& b) { return a.second < b.second; })->first;
}

float scale_of(const LoraFile& lora, const LoraPair& p) {
  return lora.rank_stabilised ? lora.alpha / std::sqrt(float(p.rank)) : lora.alpha / float(p.rank);
}

// What a tensor is merged with: its pair, or those of the experts that it stacks, nullptr where one has none.
using Pairs = std::vector<const LoraPair*>;

// Row `row` of W + scale B A, brought to its magnitude where the adapter has one.
void merged_row(const Tensor& base, const Pairs* pairs, const LoraFile& lora, int64_t row, float* out) {
  decode_row(base, row, out);
  if (!pairs) return;
  const int64_t rows = base.shape.rows() / int64_t(pairs->size()), at = row % rows;
  const LoraPair* p = (*pairs)[size_t(row / rows)];
  if (!p) return;
  const float scale = scale_of(lora, *p);
  for (int r = 0; r < p->rank; r++) {
    const float factor = scale * p->b[size_t(at) * size_t(p->rank) + size_t(r)];
    const float* a = p->a.data() + int64_t(r) * p->in;
    for (int i = 0; i < p->in; i++) out[i] += factor * a[i];
  }
  if (p->magnitude.empty()) return;
  double squares = 0;
  for (int i = 0; i < p->in; i++) squares += double(out[i]) * out[i];
  const float factor = p->magnitude[size_t(at)] == 0 ? 0 : float(p->magnitude[size_t(at)] / std::sqrt(squares));
  for (int i = 0; i < p->in; i++) out[i] *= factor;
}

// How much of the update B A the written rows hold, looked at in some rows: along * / energy is 1 when all of it is there. Weights that lie
// on their format's grid go back to where they were when each moves by less than half a step.
struct Kept {
  double along = 0, energy = 0;

  void look(const Tensor& base, const Pairs& pairs, const LoraFile& lora, const Format& format, const std::vector<std::byte>& blocks) {
    const int64_t rows = base.shape.rows(), cols = base.shape.cols();
    const int64_t step = std::max<int64_t>(1, rows / int64_t(pairs.size()) / 16);
    std::vector<float> before(static_cast<size_t>(cols)), wanted(before), written(before);
    for (int64_t r = 0; r < rows; r += step) {
      decode_row(base, r, before.data());
      merged_row(base, &pairs, lora, r, wanted.data());
      format.decode(blocks.data() + r * format.bytes_for(cols), written.data(), cols);
      for (size_t c = 0; c < before.size(); c++) {
        const double update = double(wanted[c]) - before[c];
        along += (double(written[c]) - before[c]) * update;
        energy += update * update;
      }
    }
  }
  double share() const { return energy > 0 ? along / energy : 1; }
};

// By tensor.
std::map<std::string, Pairs> pairs_of(Model& model, const LoraFile& lora) {
  model.check_lora(lora, "adapter");
  std::map<std::string, Pairs> pairs;
  for (const LoraPair& p : lora.pairs) {
    const auto place = expert_place(p.name);
    const Tensor *whole = model.file->find(p.name), *stack = place && !whole ? model.file->find(place->stack) : nullptr;
    CHECK(whole || stack, "a linear without a tensor");
    Pairs& own = pairs[whole ? p.name : place->stack];
    own.resize(whole ? 1 : size_t(stack->shape.dim[0]));
    own[whole ? 0 : size_t(place->expert)] = &p;
  }
  return pairs;
}

// The tensor's pairs, or nullptr, and what it is written as.
struct Part {
  const Pairs* pairs = nullptr;
  const Format* format = nullptr;
};
Part part_of(const NamedTensor& t, const std::map<std::string, Pairs>& pairs, const std::string& type) {
  const auto found = pairs.find(t.name);
  if (found == pairs.end()) return {nullptr, kept_format(t.tensor.format)};
  return {&found->second, merged_format(t, type)};
}

}  // namespace

uint64_t merged_bytes(Model& model, const LoraFile& lora, const std::string& type) {
  const auto all = pairs_of(model, lora);
  uint64_t bytes = model.file->file_bytes();
  for (const NamedTensor& t : model.file->tensors()) {
    const Part part = part_of(t, all, type);
    bytes += uint64_t(part.format->bytes_for(t.tensor.shape.count()));
    bytes -= t.tensor.bytes.size();
  }
  return bytes;
}

double merge(Model& model, const LoraFile& lora, const fs::path& target, const std::string& type, Pool& pool) {
  const Gguf& file = *model.file;
  std::error_code ignored;
  if (fs::equivalent(file.path(), target, ignored))
    throw usage("base and target are the same file: " + target.string(), "name another target");
  const auto all = pairs_of(model, lora);
  const Method& method = find_method("rtn");
  GgufWriter writer;
  writer.copy_metadata(file);
  std::vector<std::byte> blocks;
  std::vector<std::pair<const Format*, int64_t>> parts;
  bool integers = false;
  Kept kept;
  for (const NamedTensor& t : file.tensors()) {
    const auto [pairs, format] = part_of(t, all, type);
    if (quantizable(t)) parts.push_back({format, t.tensor.shape.count()});
    integers |= format->group > 0;
    writer.add(t.name, format, t.tensor.shape, [&, pairs = pairs, format = format]() -> std::span<const std::byte> {
      stop_if_interrupted();
      if (!pairs && format == t.tensor.format) return t.tensor.bytes;
      blocks.resize(size_t(format->bytes_for(t.tensor.shape.count())));
      encode_rows(
          target.string() + ": tensor " + t.name, t.tensor.shape.rows(), t.tensor.shape.cols(), *format, method, {},
          [&](int64_t row, float* out) { merged_row(t.tensor, pairs, lora, row, out); }, pool, blocks.data());
      if (pairs) kept.look(t.tensor, *pairs, lora, *format, blocks);
      return blocks;
    });
  }
  const int file_type = parts.empty() ? -1 : file_type_of(parts);
  if (file_type >= 0) writer.set_integer("general.file_type", uint32_t(file_type));
  if (integers) writer.set_integer("general.quantization_version", 2);
  writer.write(target);
  return kept.share();
}

}  // namespace fettle
