// AWQ as AutoAWQ writes it, 4 bits: weight = scale * (code - zero). Layout "gemm", of a linear (out, in): qweight I32 (in, out / 8), packed
// along the outputs in the order 0 2 4 6 1 3 5 7; qzeros I32 (groups, out / 8) likewise; scales F16 (groups, out). Layout "gemv": qweight
// (out, in / 8), qzeros (out, words) and scales (out, 8 words) in plain order, groups padded. Files for the exllama kernels are "gemm".
// Not read: "gemv_fast" and marlin, whose tiles are a kernel's own.
#include <algorithm>

#include "store/packing.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

class Awq : public Packing {
 public:
  Awq(const Json& config, const std::string& place) {
    const std::string version = config_text(config, {"version", "format", "checkpoint_format"}, place).value_or("gemm");
    if (version != "gemm" && version != "gemv" && version != "exllama")
      throw refused(place, "AWQ weights in the layout '" + printable(version, 40) + "' are not read", "gemm and gemv are");
    by_output_ = version == "gemv";
    if (const int64_t bits = config_integer(config, {"bits", "w_bit"}, place).value_or(4); bits != 4)
      throw refused(place, "AWQ codes of " + std::to_string(bits) + " bits are not read; 4 are");
    group_size_ = config_integer(config, {"group_size", "q_group_size"}, place).value_or(128);
    if (group_size_ != -1 && (group_size_ < 1 || group_size_ > INT32_MAX))
      throw refused(place, "group_size is " + std::to_string(group_size_));
  }
  std::vector<std::string> markers() const override { return {"qweight"}; }
  std::vector<std::string> parts() const override { return {"qweight", "qzeros", "scales"}; }
  OwnedTensor weight(const ModuleParts& m) const override { return by_output_ ? gemv(m) : gemm(m); }

 private:
  OwnedTensor gemm(const ModuleParts& m) const {
    const RawTensor& words = m.get("qweight", {"I32"}, {-1, -1});
    const int64_t columns = words.shape.dim[1];
    IntegerWeights w{.rows = columns * 8, .cols = words.shape.dim[0]};
    const RawTensor& scales = m.get("scales", {"F16", "BF16", "F32"}, {-1, w.rows});
    w.groups = scales.shape.dim[0];
    set_groups(m, w, w.groups);
    const RawTensor& zeros = m.get("qzeros", {"I32"}, {w.groups, columns});
    w.stored = find_format(scales.dtype);
    w.scales = transposed(m.floats(scales), w.groups, w.rows);
    w.least = -15, w.most = 15;
    w.values = [&](int64_t first, int64_t n, int16_t* values) {
      for (int64_t c = 0; c < w.cols; c++) {
        const int64_t group = w.group_of[size_t(c)];
        for (int64_t r = 0; r < n; r++) {
          const int64_t word = (first + r) / 8;
          const int shift = 4 * kAwqPlace[(first + r) % 8];
          const int code = int(word_at(words.bytes.data(), c * columns + word) >> shift & 15);
          const int zero = int(word_at(zeros.bytes.data(), group * columns + word) >> shift & 15);
          values[r * w.cols + c] = int16_t(code - zero);
        }
      }
    };
    return blocks_of(w);
  }

  OwnedTensor gemv(const ModuleParts& m) const {
    const RawTensor& words = m.get("qweight", {"I32"}, {-1, -1});
    const RawTensor& zeros = m.get("qzeros", {"I32"}, {words.shape.dim[0], -1});
    const int64_t columns = words.shape.dim[1], zero_words = zeros.shape.dim[1];
    IntegerWeights w{.rows = words.shape.dim[0], .cols = columns * 8, .groups = zero_words * 8};
    set_groups(m, w, -1);
    const RawTensor& scales = m.get("scales", {"F16", "BF16", "F32"}, {w.rows, w.groups});
    w.stored = find_format(scales.dtype);
    w.scales = m.floats(scales);
    w.least = -15, w.most = 15;
    w.values = [&](int64_t first, int64_t n, int16_t* values) {
      for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < w.cols; c++) {
          const uint32_t code = bits_at(words.bytes.data() + 4 * (first + r) * columns, 1, c, 4);
          const uint32_t zero = bits_at(zeros.bytes.data() + 4 * (first + r) * zero_words, 1, w.group_of[size_t(c)], 4);
          values[r * w.cols + c] = int16_t(int(code) - int(zero));
        }
    };
    return blocks_of(w);
  }

  // `wanted` groups, -1: at most as many as there are.
  void set_groups(const ModuleParts& m, IntegerWeights& w, int64_t wanted) const {
    const int64_t size = group_size_ < 0 ? w.cols : group_size_, needed = (w.cols + size - 1) / size;
    if (wanted < 0 ? needed > w.groups : needed != wanted)
      m.fail("has scales of " + std::to_string(w.groups) + " groups; " + std::to_string(w.cols) + " inputs in groups of " +
             std::to_string(size) + " are " + std::to_string(needed));
    w.group_of = even_groups(w.cols, size);
  }

  bool by_output_ = false;
  int64_t group_size_ = 128;
};

}  // namespace

std::unique_ptr<Packing> awq_packing(const Json& config, const std::string& place) { return std::make_unique<Awq>(config, place); }

}  // namespace fettle
