// Weights packed as the checkpoints of others hold them: GPTQ and AWQ from codes on a grid (Format grid_format), NF4 from the weights.
// Layouts: packed_gptq.cc, packed_awq.cc and packed_bitsandbytes.cc, which read them. What is written of GPTQ is the first kind, symmetric,
// which every reader knows.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "store/packing.h"

namespace fettle {
namespace {

using Json = nlohmann::json;
using Parts = std::vector<WeightPacker::Part>;

std::vector<std::byte> bytes_of(const auto& values) {
  const auto view = std::as_bytes(std::span(values));
  return {view.begin(), view.end()};
}

// A weight on a grid: codes (rows, cols), and of each group a scale in f16 and a zero, (groups, rows), as these kinds want them.
struct OnGrid {
  int64_t rows, cols, groups;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;
  std::vector<uint8_t> zeros;

  OnGrid(const Tensor& t, int group) : rows(t.shape.rows()), cols(t.shape.cols()), groups(cols / group), codes(size_t(rows * cols)) {
    const Format& f = *t.format;
    scales.resize(size_t(groups * rows));
    zeros.resize(scales.size());
    std::vector<float> of_row(size_t(cols / f.group)), mins(of_row);
    for (int64_t r = 0; r < rows; r++) {
      f.unpack(t.bytes.data() + r * f.bytes_for(cols), cols, codes.data() + r * cols, of_row.data(), mins.data());
      for (int64_t g = 0; g < groups; g++) {
        const float scale = of_row[size_t(g * group / f.group)], min = mins[size_t(g * group / f.group)];
        scales[size_t(g * rows + r)] = half_from_float(scale);
        zeros[size_t(g * rows + r)] = uint8_t(scale == 0 ? f.codes / 2 : std::nearbyint(-min / scale));
      }
    }
  }
};

void check_shape(const Shape& shape, int group, int outputs) {
  if (shape.cols() % group || shape.rows() % outputs)
    throw refused({}, "is " + shape.text() + ": this packing wants inputs that divide by " + std::to_string(group) + " and outputs by " +
                          std::to_string(outputs));
}

class GptqPacker : public WeightPacker {
 public:
  GptqPacker(int bits, int group) : bits_(bits), group_(group) {}
  const Format* format() const override { return grid_format(bits_, group_, false); }
  Json config() const override {
    return {
        {"quant_method", "gptq"},     {"bits", bits_},        {"group_size", group_},    {"desc_act", false},      {"sym", true},
        {"lm_head", false},           {"damp_percent", 0.01}, {"true_sequential", true}, {"static_groups", false}, {"pack_dtype", "int32"},
        {"checkpoint_format", "gptq"}};
  }
  Parts parts(const Shape& s) const override {
    check_shape(s, group_, 32);
    const int64_t groups = s.cols() / group_;
    return {{"qweight", "I32", {s.cols() * bits_ / 32, s.rows()}},
            {"qzeros", "I32", {groups, s.rows() * bits_ / 32}},
            {"scales", "F16", {groups, s.rows()}},
            {"g_idx", "I32", {s.cols()}}};
  }
  std::vector<std::vector<std::byte>> pack(const Tensor& weight) const override {
    const OnGrid w(weight, group_);
    std::vector<uint32_t> codes(size_t(w.cols * bits_ / 32 * w.rows)), zeros(size_t(w.groups * w.rows * bits_ / 32));
    for (int64_t r = 0; r < w.rows; r++)
      for (int64_t c = 0; c < w.cols; c++) put_bits(codes.data() + r, w.rows, c, bits_, w.codes[size_t(r * w.cols + c)]);
    for (int64_t g = 0; g < w.groups; g++)
      for (int64_t r = 0; r < w.rows; r++)  // less one, as this kind has it
        put_bits(zeros.data() + g * w.rows * bits_ / 32, 1, r, bits_, uint32_t(w.zeros[size_t(g * w.rows + r)] - 1));
    return {bytes_of(codes), bytes_of(zeros), bytes_of(w.scales), bytes_of(even_groups(w.cols, group_))};
  }

 private:
  int bits_, group_;
};

class AwqPacker : public WeightPacker {
 public:
  explicit AwqPacker(int group) : group_(group) {}
  const Format* format() const override { return grid_format(4, group_, true); }
  Json config() const override {
    return {{"quant_method", "awq"}, {"bits", 4},         {"group_size", group_},
            {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", nullptr}};
  }
  Parts parts(const Shape& s) const override {
    check_shape(s, group_, 8);
    const int64_t groups = s.cols() / group_;
    return {{"qweight", "I32", {s.cols(), s.rows() / 8}}, {"qzeros", "I32", {groups, s.rows() / 8}}, {"scales", "F16", {groups, s.rows()}}};
  }
  std::vector<std::vector<std::byte>> pack(const Tensor& weight) const override {
    const OnGrid w(weight, group_);
    std::vector<uint32_t> codes(size_t(w.cols * w.rows / 8)), zeros(size_t(w.groups * w.rows / 8));
    for (int64_t r = 0; r < w.rows; r++) {
      const int place = kAwqPlace[r % 8];
      for (int64_t c = 0; c < w.cols; c++) put_bits(codes.data() + c * w.rows / 8 + r / 8, 1, place, 4, w.codes[size_t(r * w.cols + c)]);
      for (int64_t g = 0; g < w.groups; g++) put_bits(zeros.data() + g * w.rows / 8 + r / 8, 1, place, 4, w.zeros[size_t(g * w.rows + r)]);
    }
    return {bytes_of(codes), bytes_of(zeros), bytes_of(w.scales)};
  }

 private:
  int group_;
};

// The 256 values that bitsandbytes rounds scales to (Dettmers 2015): powers of ten, each with evenly spaced fractions, twice as many as of
// the one before.
std::vector<float> dynamic_map() {
  std::vector<float> values{0, 1};
  for (int i = 0; i < 7; i++) {
    const int n = 1 << i;
    for (int j = 0; j < n; j++) {
      const double low = 0.1 + 0.9 * j / n, high = 0.1 + 0.9 * (j + 1) / n, value = std::pow(10.0, i - 6) * (low + high) / 2;
      values.push_back(float(value));
      values.push_back(float(-value));
    }
  }
  std::ranges::sort(values);
  return values;
}

// The nearest of ascending values.
size_t nearest(const std::vector<float>& values, float x) {
  const auto above = std::ranges::lower_bound(values, x);
  if (above == values.begin()) return 0;
  if (above == values.end()) return values.size() - 1;
  return size_t(above - values.begin()) - (x - above[-1] < above[0] - x ? 1 : 0);
}

class Nf4Packer : public WeightPacker {
 public:
  bool experts() const override { return false; }  // transformers joins experts into one tensor, which bitsandbytes leaves alone
  Nf4Packer() : values_(16), map_(dynamic_map()) {
    // what the format's codes stand for, by a block of all of them under a scale of 1
    const Format& f = *find_format("NF4");
    std::vector<std::byte> block(size_t(f.block_bytes));
    std::vector<uint8_t> codes(size_t(f.block));
    std::vector<float> decoded(size_t(f.block));
    for (size_t i = 0; i < codes.size(); i++) codes[i] = uint8_t(i % 16);
    const float one = 1;
    std::memcpy(block.data(), &one, 4);
    f.recode(block.data(), f.block, codes.data());
    f.decode(block.data(), decoded.data(), f.block);
    std::copy_n(decoded.begin(), 16, values_.begin());
  }
  const Format* format() const override { return nullptr; }
  Json config() const override {
    return {{"quant_method", "bitsandbytes"},
            {"load_in_4bit", true},
            {"load_in_8bit", false},
            {"_load_in_4bit", true},
            {"_load_in_8bit", false},
            {"bnb_4bit_quant_type", "nf4"},
            {"bnb_4bit_use_double_quant", true},
            {"bnb_4bit_compute_dtype", "float16"},
            {"bnb_4bit_quant_storage", "uint8"},
            {"llm_int8_threshold", 6.0},
            {"llm_int8_skip_modules", nullptr},
            {"llm_int8_enable_fp32_cpu_offload", false},
            {"llm_int8_has_fp16_weight", false}};
  }
  Parts parts(const Shape& s) const override {
    check_shape(s, 64, 1);
    const int64_t runs = s.count() / kRun;
    // bytes last, a whole number of words in all: readers want floats of this weight and the next ones to lie at multiples of four
    return {{"weight.quant_map", "F32", {16}},         {"weight.nested_absmax", "F32", {(runs + kNestedRun - 1) / kNestedRun}},
            {"weight.nested_quant_map", "F32", {256}}, {"weight", "U8", {s.count() / 2, 1}},
            {"weight.absmax", "U8", {runs}},           {"weight.quant_state.bitsandbytes__nf4", "U8", {int64_t(state(s, 0).size())}}};
  }
  std::vector<std::vector<std::byte>> pack(const Tensor& weight) const override {
    const int64_t cols = weight.shape.cols(), runs = weight.shape.count() / kRun;
    std::vector<float> largest(static_cast<size_t>(runs)), row(static_cast<size_t>(cols));
    std::vector<uint8_t> codes(size_t(weight.shape.count() / 2));
    for (int64_t r = 0; r < weight.shape.rows(); r++) {
      weight.format->decode(weight.bytes.data() + r * weight.format->bytes_for(cols), row.data(), cols);
      for (int64_t c = 0; c < cols; c += kRun) {
        float& most = largest[size_t((r * cols + c) / kRun)];
        for (int64_t j = c; j < c + kRun; j++) most = std::max(most, std::fabs(row[size_t(j)]));
        const float inverse = most > 0 ? 1 / most : 0;
        for (int64_t j = c; j < c + kRun; j++) {
          const size_t at = size_t(r * cols + j);
          codes[at / 2] |= uint8_t(nearest(values_, row[size_t(j)] * inverse) << (at % 2 ? 0 : 4));
        }
      }
    }
    double sum = 0;
    for (float x : largest) sum += double(x);
    const float offset = float(sum / double(runs));
    std::vector<uint8_t> scales(largest.size());
    std::vector<float> nested;
    for (size_t first = 0; first < largest.size(); first += kNestedRun) {
      const size_t last = std::min(largest.size(), first + kNestedRun);
      float most = 0;
      for (size_t i = first; i < last; i++) most = std::max(most, std::fabs(largest[i] - offset));
      nested.push_back(most);
      for (size_t i = first; i < last; i++) scales[i] = uint8_t(nearest(map_, most > 0 ? (largest[i] - offset) / most : 0));
    }
    return {bytes_of(values_), bytes_of(nested), bytes_of(map_), bytes_of(codes), bytes_of(scales), bytes_of(state(weight.shape, offset))};
  }

 private:
  static constexpr int64_t kRun = 64, kNestedRun = 256;
  // Of one length for one shape, whatever the offset: the table of a file is written before weights are.
  static std::string state(const Shape& s, float offset) {
    char number[40];
    std::snprintf(number, sizeof number, "%.17e", double(offset));
    std::string text = "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float16\", \"shape\": [" + std::to_string(s.rows()) +
                       ", " + std::to_string(s.cols()) +
                       "], \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": " + number + "}";
    const int64_t bytes = s.count() / 2 + s.count() / kRun;
    text.resize(size_t(256 + (8 - bytes % 8) % 8), ' ');
    return text;
  }
  std::vector<float> values_, map_;
};

}  // namespace

std::unique_ptr<WeightPacker> weight_packer(const std::string& kind, int bits, int group) {
  if (kind == "nf4") {
    if (bits != 4 || group != 64) throw usage("NF4 has 4 bits and groups of 64");
    return std::make_unique<Nf4Packer>();
  }
  if (!grid_format(bits, group, false)) throw usage("there are 2, 3, 4 and 8 bits and groups of 32, 64 and 128 weights");
  if (kind == "gptq") return std::make_unique<GptqPacker>(bits, group);
  CHECK(kind == "awq", "a kind of packing");
  if (bits != 4) throw usage("AWQ has 4 bits");
  return std::make_unique<AwqPacker>(group);
}

}  // namespace fettle
