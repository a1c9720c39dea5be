// GPTQ (Frantar et al. 2022): columns get their codes in order, and what rounding one column did to the outputs is made up for by the
// columns after it, as the inputs' covariance says (metric.h). A block's scales are searched when its first column is reached, on the
// weights as corrected so far and weighted by importance, then stay; codes are the nearest on that grid. (Weighing by what is left of a
// column's importance after correction, D of metric.h, fits the calibration rows too closely: the real model lost more.) Rows do not depend
// on each other: a group of rows goes together so that the correction of the columns behind is a product of matrices. Columns keep the
// file's order (GGUF has no permutation). Without a covariance, and for float formats, it is the weighted search.
#include <algorithm>
#include <cmath>

#include "compress/metric.h"
#include "op/product.h"

namespace fettle {
namespace {

constexpr int kStep = 32;  // columns that are corrected one by one; the columns behind them are corrected at once

// The codes of a format as numbers: weight = scale * value + min.
struct Grid {
  int lowest, highest;
  uint8_t code_of[256];  // by the nearest integer in 0..255
  float value_of[256];
  explicit Grid(const Format& f) {
    // Codes of a whole byte keep to -127..127, as encode() does (q8_0.cc).
    lowest = f.codes == 256 ? 1 : 0;
    highest = f.codes - 1;
    for (int c = 0; c <= highest; c++) value_of[c] = float(f.table ? f.table[c] : c);
    for (int v = 0; v < 256; v++) {
      int best = lowest;
      for (int c = lowest; c <= highest; c++)
        if (std::fabs(value_of[c] - float(v)) < std::fabs(value_of[best] - float(v))) best = c;
      code_of[v] = uint8_t(best);
    }
  }
  uint8_t nearest(float x, float scale, float min) const {
    const float y = (x - min) / scale;
    return code_of[y > 0 ? int(std::min(y, 255.0f) + 0.5f) : 0];  // NOLINT: a tie may go either way
  }
};

struct Work {
  const Encoding& e;
  const InputMetric& metric;
  const Grid grid;
  const int rows, cols, block, group;
  std::vector<float> x, errors, scales, mins;  // (rows, cols) corrected so far; (rows, kStep); (rows, block / group) twice
  std::vector<uint8_t> codes;                  // (rows, block)

  Work(const Encoding& encoding, const float* weights, int m)
      : e(encoding),
        metric(*encoding.metric),
        grid(encoding.format),
        rows(m),
        cols(int(encoding.cols)),
        block(encoding.format.block),
        group(encoding.format.group),
        x(weights, weights + int64_t(m) * encoding.cols),
        errors(size_t(m) * kStep),
        scales(size_t(m * block / group)),
        mins(scales.size()),
        codes(size_t(m * block)) {}

  std::byte* block_at(std::byte* blocks, int r, int column) const {
    return blocks + r * e.format.bytes_for(cols) + e.format.bytes_for(column);
  }
  // What the block's weights would be now if no more were rounded: the corrections of its columns pull at each other, and scales are
  // searched for what will be rounded in the end (GPTQ's running weights; `x` has the corrections by rounded columns alone).
  void settle(int column, const float* row, const float* original, float* settled) const {
    for (int k = 0; k < block; k++) settled[k] = row[k] - original[k];
    for (int j = 0; j < block; j++) {
      const float* n = metric.row(column + j) + column;
      const float d = settled[j];
      for (int k = j / 16 * 16; k < block; k += 16)  // N is zero before j, and one at it
        for (int i = k; i < k + 16; i++) settled[i] -= d * n[i];
      settled[j] = original[j] + d;
    }
  }
  void choose_scales(int column, const float* weights, std::byte* blocks) {
    std::vector<float> settled(static_cast<size_t>(block));
    for (int r = 0; r < rows; r++) {
      std::byte* b = block_at(blocks, r, column);
      const int64_t at = int64_t(r) * cols + column;
      settle(column, x.data() + at, weights + at, settled.data());
      e.format.encode(settled.data(), b, block, e.importance ? e.importance + column : nullptr);
      e.format.unpack(b, block, codes.data() + r * block, scales.data() + r * (block / group), mins.data() + r * (block / group));
    }
  }
  // Codes of the columns [first, first + kStep), which lie `within` a block, and their errors against the original weights.
  void choose_codes(int first, int within, const float* weights) {
    float near[kStep][kStep];
    for (int j = 0; j < kStep; j++) std::copy_n(metric.row(first + j) + first, kStep, near[j]);
    for (int r = 0; r < rows; r++) {
      float* row = x.data() + int64_t(r) * cols + first;
      const float* original = weights + int64_t(r) * cols + first;
      for (int j = 0; j < kStep; j++) {
        const int g = r * (block / group) + (within + j) / group;
        const float scale = scales[size_t(g)], min = mins[size_t(g)];
        uint8_t& code = codes[size_t(r * block + within + j)];
        if (scale != 0) code = grid.nearest(row[j], scale, min);
        const float error = original[j] - (scale * grid.value_of[code] + min);
        errors[size_t(r * kStep + j)] = error;
        for (int k = j + 1; k < kStep; k++) row[k] += error * near[j][k];
      }
    }
  }
  void correct_behind(int first) {
    const int next = first + kStep;
    matrix_product(e.pool,
                   {errors.data(), kStep, 1, metric.row(first) + next, cols, x.data() + next, cols, rows, cols - next, kStep, 1.0f, true});
  }
  void run(const float* weights, std::byte* blocks) {
    for (int first = 0; first < cols; first += kStep) {
      const int within = first % block;
      if (within == 0) choose_scales(first, weights, blocks);
      choose_codes(first, within, weights);
      correct_behind(first);
      if (within + kStep == block)
        for (int r = 0; r < rows; r++) e.format.recode(block_at(blocks, r, first - within), block, codes.data() + r * block);
    }
  }
};

void encode(const Encoding& e, const float* weights, int rows, std::byte* blocks) {
  if (!e.metric || !e.format.recode) return encode_each(e, weights, rows, blocks, e.importance);
  Work(e, weights, rows).run(weights, blocks);
}

}  // namespace

extern const Method method_gptq = {"gptq", "let later columns make up for the rounding of earlier ones, by the inputs' covariance", true,
                                   true, encode};

}  // namespace fettle
