// bitsandbytes. 4 bits: weight holds the codes of the whole matrix row after row, the first of two in the high nibble (its dtype says
// nothing), weight.absmax a scale for each run of `blocksize` weights, in f32 or, nested, as bytes: nested_quant_map[byte] *
// nested_absmax[run of runs] + offset; weight.quant_map the 16 values; weight.quant_state.bitsandbytes__nf4 (or fp4) the rest, as JSON in a
// tensor of bytes. 8 bits: weight I8, SCB F32 (out), the largest of each row: weight = code * SCB / 127. Not read: rows that are laid out
// for a kernel (weight_format other than 0).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "store/packing.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

constexpr const char* kStates[] = {"weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4"};
constexpr size_t kMostState = 1 << 16;
constexpr float kOf127 = 7.874015718698502e-3f;  // 1 / 127 as the reference writes it

struct State {  // what the JSON says
  int64_t rows = 0, cols = 0, run = 0, nested_run = 0;
  float offset = 0;
};

int64_t positive(const ModuleParts& m, const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_integer() || found->get<int64_t>() < 1 || found->get<int64_t>() > (int64_t(1) << 40))
    m.fail(std::string("its quant_state has no whole number ") + key);
  return found->get<int64_t>();
}

State state_of(const ModuleParts& m, const std::string& part, bool nested) {
  const RawTensor& tensor = m.get(part, {"U8"}, {-1});
  if (tensor.bytes.size() > kMostState) m.fail("its quant_state is longer than 64 KB");
  const Json json = parse_json({reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()}, m.place() + ": " + part);
  State s{.run = positive(m, json, "blocksize")};
  const auto shape = json.find("shape");
  if (shape == json.end() || !shape->is_array() || shape->size() != 2) m.fail("its quant_state has no shape of two numbers");
  const Json sizes = {{"rows", (*shape)[0]}, {"columns", (*shape)[1]}};
  s.rows = positive(m, sizes, "rows"), s.cols = positive(m, sizes, "columns");
  if (!nested) return s;
  s.nested_run = positive(m, json, "nested_blocksize");
  const auto offset = json.find("nested_offset");
  if (offset == json.end() || !offset->is_number() || !std::isfinite(offset->get<float>()))
    m.fail("its quant_state has no number nested_offset");
  s.offset = offset->get<float>();
  return s;
}

// (runs)
std::vector<float> scales_of(const ModuleParts& m, const State& s, int64_t runs, bool nested) {
  if (!nested) return m.floats(m.get("weight.absmax", {"F32"}, {runs}));
  const RawTensor& bytes = m.get("weight.absmax", {"U8"}, {runs});
  const std::vector<float> values = m.floats(m.get("weight.nested_quant_map", {"F32"}, {256}));
  const std::vector<float> largest = m.floats(m.get("weight.nested_absmax", {"F32"}, {(runs + s.nested_run - 1) / s.nested_run}));
  std::vector<float> scales(static_cast<size_t>(runs));
  for (size_t i = 0; i < scales.size(); i++) {
    scales[i] = values[uint8_t(bytes.bytes[i])] * largest[i / size_t(s.nested_run)];
    scales[i] += s.offset;
    if (!std::isfinite(scales[i])) m.fail("a scale is not finite");
  }
  return scales;
}

// The format whose codes stand for these values, nullptr: none.
const Format* format_of(const std::vector<float>& values) {
  for (const char* name : {"NF4", "FP4"}) {
    const Format* f = find_format(name);
    std::vector<std::byte> block(size_t(f->block_bytes));
    std::vector<float> decoded(size_t(f->block));
    std::vector<uint8_t> codes(size_t(f->block));
    for (size_t i = 0; i < codes.size(); i++) codes[i] = uint8_t(i % 16);
    const float one = 1;
    std::memcpy(block.data(), &one, 4);
    f->recode(block.data(), f->block, codes.data());
    f->decode(block.data(), decoded.data(), f->block);
    if (std::equal(values.begin(), values.end(), decoded.begin())) return f;
  }
  return nullptr;
}

OwnedTensor four_bits(const ModuleParts& m) {
  const bool nested = m.find("weight.nested_absmax");
  const RawTensor* packed = m.find("weight");
  const char* part = m.find(kStates[0]) ? kStates[0] : kStates[1];
  const State s = state_of(m, part, nested);
  const __int128 count = __int128(s.rows) * s.cols;
  if (!packed || __int128(packed->bytes.size()) != (count + 1) / 2)
    m.fail("weight has " + std::to_string(packed ? packed->bytes.size() : 0) + " bytes, which " + Shape{s.rows, s.cols}.text() +
           " codes of 4 bits do not make");
  const std::vector<float> scales = scales_of(m, s, (int64_t(count) + s.run - 1) / s.run, nested);
  const std::vector<float> values = m.floats(m.get("weight.quant_map", {"F32"}, {16}));
  const auto code = [&](int64_t i) { return uint8_t(packed->bytes[size_t(i / 2)]) >> (i % 2 ? 0 : 4) & 15; };

  OwnedTensor result;
  const Format* f = s.cols % 32 == 0 && s.run % 32 == 0 ? format_of(values) : nullptr;
  if (!f) {  // runs that go on in the next row, or values of another table
    f = find_format("F32");
    result.bytes.resize(size_t(count) * sizeof(float));
    for (int64_t i = 0; i < int64_t(count); i++) {
      const float weight = values[size_t(code(i))] * scales[size_t(i / s.run)];
      std::memcpy(result.bytes.data() + i * 4, &weight, 4);
    }
  } else {
    result.bytes.resize(size_t(f->bytes_for(int64_t(count))));
    std::vector<uint8_t> codes(size_t(f->block));
    for (int64_t i = 0; i < int64_t(count); i += f->block) {
      std::byte* block = result.bytes.data() + f->bytes_for(i);
      std::memcpy(block, &scales[size_t(i / s.run)], 4);
      for (int64_t j = 0; j < f->block; j++) codes[size_t(j)] = uint8_t(code(i + j));
      f->recode(block, f->block, codes.data());
    }
  }
  result.tensor = {f, {s.rows, s.cols}, result.bytes};
  return result;
}

OwnedTensor eight_bits(const ModuleParts& m) {
  const RawTensor& codes = m.get("weight", {"I8"}, {-1, -1});
  IntegerWeights w{.rows = codes.shape.dim[0], .cols = codes.shape.dim[1], .groups = 1, .least = -128, .most = 127};
  if (const RawTensor* layout = m.find("weight_format");
      layout && std::ranges::any_of(layout->bytes, [](std::byte b) { return b != std::byte(0); }))
    m.fail("its rows are laid out for a kernel of a GPU (weight_format is not 0)", "save the model again with a newer bitsandbytes");
  w.scales = m.floats(m.get("SCB", {"F32"}, {w.rows}));
  for (float& s : w.scales) s *= kOf127;
  w.group_of = even_groups(w.cols, w.cols);
  w.stored = find_format("F32");
  w.values = [&](int64_t first, int64_t n, int16_t* values) {
    for (int64_t i = 0; i < n * w.cols; i++) values[i] = int8_t(codes.bytes[size_t(first * w.cols + i)]);
  };
  return blocks_of(w);
}

class Bitsandbytes : public Packing {
 public:
  std::vector<std::string> markers() const override { return {"weight.absmax", "SCB"}; }
  std::vector<std::string> parts() const override {
    return {"weight",   "weight.absmax", "weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map", kStates[0],
            kStates[1], "SCB",           "weight_format"};
  }
  OwnedTensor weight(const ModuleParts& m) const override { return m.find("SCB") ? eight_bits(m) : four_bits(m); }
};

}  // namespace

std::unique_ptr<Packing> bitsandbytes_packing(const Json&, const std::string&) { return std::make_unique<Bitsandbytes>(); }

}  // namespace fettle
