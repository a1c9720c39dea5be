// What the tests of operations share: random operands, plain references, a test for each instruction set. For tests only.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "../../tests/test_blocks.h"
#include "format/format.h"
#include "op/op.h"
#include "simd/isa.h"

namespace fettle {

inline std::vector<float> randoms(size_t n, uint64_t seed, float scale = 1) {
  Random random(seed);
  std::vector<float> v(n + 16);
  for (float& x : v) x = scale * float(random.normal());
  return v;
}

// A weight of any format with the bytes it owns.
struct Weight {
  std::vector<std::byte> bytes;
  Linear linear;
  Weight(const char* format, int out, int in, uint64_t seed) {
    const Format* f = find_format(format);
    std::vector<float> w = randoms(size_t(out) * size_t(in), seed, 1 / std::sqrt(float(in)));
    bytes = test_blocks(*f, w.data(), int64_t(out) * in, seed);
    linear = Linear("w", Tensor{f, {out, in}, bytes});
  }
  std::vector<float> decoded() const {
    std::vector<float> w(size_t(linear.out) * size_t(linear.in));
    linear.weight.format->decode(bytes.data(), w.data(), int64_t(w.size()));
    return w;
  }
};

inline std::vector<double> plain_product(const float* x, int rows, const std::vector<float>& w, int out, int in) {
  std::vector<double> y(size_t(rows) * size_t(out));
  for (int r = 0; r < rows; r++)
    for (int o = 0; o < out; o++) {
      double s = 0;
      for (int i = 0; i < in; i++) s += double(x[r * in + i]) * w[size_t(o) * in + i];
      y[size_t(r) * out + o] = s;
    }
  return y;
}

// `size`: what truths are like; a lone one may be nearly zero.
inline double relative_error(const float* y, const std::vector<double>& truth, double size = 0) {
  double e = 0, n = 0;
  for (size_t i = 0; i < truth.size(); i++) e += (y[i] - truth[i]) * (y[i] - truth[i]), n += truth[i] * truth[i];
  return std::sqrt(e / std::max({n, size * size * double(truth.size()), 1e-30}));
}

class EachIsa : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override { set_isa(GetParam()); }
  void TearDown() override { set_isa(available_isas().back()); }
  Arena arena;
  Pool pool{2};
};

struct Shapes {
  int heads = 6, kv_heads = 2, d = 32, window = 0;
};

}  // namespace fettle
