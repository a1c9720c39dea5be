// GPTQ as AutoGPTQ and GPTQModel write it. Of a linear (out, in): qweight I32 (in * bits / 32, out), codes packed along the inputs, lowest
// bits first, 32 codes of 3 bits in three words; qzeros I32 (groups, out * bits / 32), packed along the outputs; scales (groups, out);
// g_idx I32 (in), the group of each input, which act-order scatters. weight = scale * (code - zero). In files of the first kind ("gptq")
// words of zeros had one taken off each number before they were written; of the second ("gptq_v2") they are as they are. Not read: the
// layouts of other kernels (marlin, bitblas, exl2), embeddings.
#include <algorithm>

#include "store/packing.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

// One taken off every number of a word is put back as it was done: on the whole word where numbers do not straddle words, so that a zero of
// 0, which borrowed from its neighbour, comes out right again.
uint32_t one_more_each(uint32_t word, int bits) { return word + (bits == 2 ? 0x55555555u : bits == 4 ? 0x11111111u : 0x01010101u); }

class Gptq : public Packing {
 public:
  Gptq(const Json& config, const std::string& place) {
    const std::string kind = config_text(config, {"checkpoint_format", "format"}, place).value_or("gptq");
    if (kind != "gptq" && kind != "gptq_v2")
      throw refused(place, "GPTQ weights in the layout '" + printable(kind, 40) + "' are not read", "gptq and gptq_v2 are");
    if (auto words = config_text(config, {"pack_dtype"}, place); words && *words != "int32")
      throw refused(place, "GPTQ codes packed in " + printable(*words, 20) + " are not read; int32 are");
    second_kind_ = kind == "gptq_v2";
    bits_ = config_integer(config, {"bits"}, place).value_or(0);
    if (bits_ != 2 && bits_ != 3 && bits_ != 4 && bits_ != 8)
      throw refused(place, "GPTQ codes of " + std::to_string(bits_) + " bits are not read; 2, 3, 4 and 8 are");
    group_size_ = config_integer(config, {"group_size"}, place).value_or(-1);
    if (group_size_ != -1 && (group_size_ < 1 || group_size_ > INT32_MAX))
      throw refused(place, "group_size is " + std::to_string(group_size_));
    // some modules have bits and group sizes of their own: their shapes tell
    own_sizes_ = config.contains("dynamic") && !config["dynamic"].empty();
  }
  std::vector<std::string> markers() const override { return {"qweight"}; }
  std::vector<std::string> parts() const override { return {"qweight", "qzeros", "scales", "g_idx"}; }

  OwnedTensor weight(const ModuleParts& m) const override {
    const RawTensor& words = m.get("qweight", {"I32"}, {-1, -1});
    const RawTensor& scales = m.get("scales", {"F16", "BF16", "F32"}, {-1, words.shape.dim[1]});
    IntegerWeights w{.rows = words.shape.dim[1], .groups = scales.shape.dim[0], .stored = find_format(scales.dtype)};
    const RawTensor& zero_words = m.get("qzeros", {"I32"}, {w.groups, -1});
    const int bits = bits_of(m, w.rows, zero_words.shape.dim[1]);
    if (words.shape.dim[0] * 32 % bits) m.fail("qweight has " + std::to_string(words.shape.dim[0]) + " rows, in which codes do not fit");
    w.cols = words.shape.dim[0] * 32 / bits;
    w.group_of = groups(m, w);
    const std::vector<int16_t> zero = zeros(zero_words, w.rows, bits);
    const auto [lowest, highest] = std::ranges::minmax(zero);
    w.least = -highest, w.most = (1 << bits) - 1 - lowest;
    w.scales = transposed(m.floats(scales), w.groups, w.rows);
    w.values = [&words, &w, &zero, bits](int64_t first, int64_t n, int16_t* values) {
      for (int64_t c = 0; c < w.cols; c++) {
        const int16_t* of_group = zero.data() + w.group_of[size_t(c)] * w.rows + first;
        for (int64_t r = 0; r < n; r++)
          values[r * w.cols + c] = int16_t(int(bits_at(words.bytes.data() + 4 * (first + r), w.rows, c, bits)) - of_group[r]);
      }
    };
    return blocks_of(w);
  }

 private:
  // As configured; as the shape of the zeros has it where modules may differ.
  int bits_of(const ModuleParts& m, int64_t out, int64_t zero_words) const {
    const auto fit = [&](int64_t bits) { return zero_words == (out * bits + 31) / 32; };
    if (fit(bits_)) return int(bits_);
    for (int bits : {2, 3, 4, 8})
      if (own_sizes_ && fit(bits)) return bits;
    m.fail("qzeros has " + std::to_string(zero_words) + " columns, which " + std::to_string(out) + " zeros of " + std::to_string(bits_) +
           " bits do not make");
  }

  // (cols)
  std::vector<int32_t> groups(const ModuleParts& m, const IntegerWeights& w) const {
    if (m.find("g_idx")) {
      std::vector<int32_t> group_of;
      for (int64_t g : m.integers(m.get("g_idx", {"I32"}, {w.cols}))) {
        if (g < 0 || g >= w.groups) m.fail("g_idx names group " + std::to_string(g) + " of " + std::to_string(w.groups));
        group_of.push_back(int32_t(g));
      }
      return group_of;
    }
    int64_t size = group_size_ < 0 ? w.cols : group_size_;
    if (own_sizes_ && w.cols % w.groups == 0) size = w.cols / w.groups;
    if ((w.cols + size - 1) / size != w.groups)
      m.fail("has scales of " + std::to_string(w.groups) + " groups; " + std::to_string(w.cols) + " inputs in groups of " +
             std::to_string(size) + " are another number");
    return even_groups(w.cols, size);
  }

  // (groups, out)
  std::vector<int16_t> zeros(const RawTensor& packed, int64_t out, int bits) const {
    const int64_t groups = packed.shape.dim[0], words = packed.shape.dim[1];
    std::vector<int16_t> zero(size_t(groups * out));
    std::vector<uint32_t> row(static_cast<size_t>(words));
    for (int64_t g = 0; g < groups; g++) {
      for (int64_t i = 0; i < words; i++) {
        row[size_t(i)] = word_at(packed.bytes.data(), g * words + i);
        if (!second_kind_ && bits != 3) row[size_t(i)] = one_more_each(row[size_t(i)], bits);
      }
      for (int64_t o = 0; o < out; o++) {
        uint32_t z = bits_at(reinterpret_cast<const std::byte*>(row.data()), 1, o, bits);
        if (!second_kind_ && bits == 3) z = (z + 1) % 8;
        zero[size_t(g * out + o)] = int16_t(z);
      }
    }
    return zero;
  }

  bool second_kind_ = false, own_sizes_ = false;
  int64_t bits_ = 0, group_size_ = -1;
};

}  // namespace

std::unique_ptr<Packing> gptq_packing(const Json& config, const std::string& place) { return std::make_unique<Gptq>(config, place); }

}  // namespace fettle
