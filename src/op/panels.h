// Weights repacked for the kernels. Private to the room; layouts in kernels.h.
#pragma once
#include <cstdlib>
#include <memory>

#include "format/format.h"
#include "op/kernels.h"
#include "op/linear.h"

namespace fettle {

class PanelSlab;

// Memory for panels: 64-byte aligned, huge pages asked for, 4 KiB of slack behind it for prefetch and short loads.
class PanelMemory {
 public:
  PanelMemory() = default;
  // A part of `slab` while that has room, else on its own.
  explicit PanelMemory(size_t bytes, PanelSlab* slab = nullptr);
  uint8_t* get() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<uint8_t> data_;
  size_t bytes_ = 0;
};

// Memory for the panels of many weights, which lives as long as one of them does. Most weights are a few huge pages and a rest: on their
// own a tenth of a small model would lie in small pages, which are read a fifth slower (measured on Sapphire Rapids, virtualised).
class PanelSlab {
 public:
  explicit PanelSlab(size_t bytes) : memory_(bytes) {}

 private:
  friend class PanelMemory;
  PanelMemory memory_;
  size_t used_ = 0;
};

struct Panels {
  enum Kind { integer, bfloat, f32 };
  Kind kind = f32;
  int outputs = 0, inputs = 0;  // of the product these panels make (swapped for backward ones)
  PanelMemory memory;
  IntPanelLayout layout{};  // integer
  std::unique_ptr<float[]> row_factors;
  int panels() const { return (outputs + 15) / 16; }
  // Distance between panels, in elements of the kind (bytes, dwords, floats).
  int64_t panel_stride() const {
    if (kind == integer) return layout.panel_bytes(inputs);
    return kind == bfloat ? int64_t((inputs + 1) / 2) * 16 : int64_t(inputs) * 16;
  }
};

// The blocks of one row of a weight.
inline const uint8_t* row_bytes(const Tensor& w, int64_t row) {
  return reinterpret_cast<const uint8_t*>(w.bytes.data()) + row * w.format->bytes_for(w.shape.cols());
}

// Whether the format's codes fit integer panels (its rows divide by the activations' blocks of 32).
bool has_integer_panels(const Tensor& weight);
// The layout and the size, without a weight repacked yet.
IntPanelLayout integer_layout(const Format& format);
Panels make_integer_panels(const Tensor& weight, Pool& pool, PanelSlab* slab = nullptr);
// backward: panels of W^T, so that the same product gives dx = dy W.
Panels make_bf16_panels(const Tensor& weight, bool backward, Pool& pool, PanelSlab* slab = nullptr);
Panels make_f32_panels(const Tensor& weight, bool backward, Pool& pool, PanelSlab* slab = nullptr);

// The left side of bf16 products: rows of pairs, an odd width padded with zero. bf16 in the run's arena, or the f32 rows themselves where
// products take those.
struct PairRows {
  const std::byte* data = nullptr;
  int64_t stride = 0;  // pairs from row to row, of Kernels::pair_rows rows on average
  int rows = 0;
  explicit operator bool() const { return data; }
};
PairRows bf16_rows(Run& run, const float* a, int m, int k);
// Rows [first, first + count) of a call.
struct RowRange {
  int first = 0, count = 0;
};
// The same of several ranges, each by itself. from: row r of the call is a's row from[r]; nullptr: a's row r.
void bf16_rows(Run& run, const float* a, int k, const int* from, std::span<const RowRange> ranges, std::span<PairRows> out);
// c (rows, outputs) (+)= a (rows, inputs) by bf16 panels.
void multiply_bf16(Run& run, const PairRows& a, const Panels& panels, float* c, bool accumulate);
// Products of rows by the panels of a weight, c (rows, outputs) = a (rows, inputs) W^T, as one list of tasks.
struct PanelProduct {
  PairRows a;
  const Panels* panels;
  float* c;
};
// By the codes of integer panels, expanded to bf16 (Kernels::codes_to_pairs).
void multiply_codes(Run& run, std::span<const PanelProduct> products);
// By bf16 panels.
void multiply_bf16(Run& run, std::span<const PanelProduct> products);
// Memory of the calling thread, at least so large; its next call may take it.
uint8_t* thread_scratch(size_t bytes);
// Whether products of bf16 pairs are faster than f32 ones here.
bool pairs_pay();
// A right side (k, n) made for one product, in the run's arena: panels of bf16 pairs of factor * b.
struct PairPanels {
  const uint32_t* data;
  int k, n;
};
PairPanels pair_panels(Run& run, const float* b, int k, int n);                                  // b (k, n)
PairPanels pair_panels_of_transposed(Run& run, const float* b, int n, int k, float factor = 1);  // b (n, k)
// c (rows, n) (+)= a b
void multiply_pairs(Run& run, const PairRows& a, const PairPanels& b, float* c, bool accumulate);
GemmF32 f32_product(const float* a, int m, const Panels& panels, float* c, bool accumulate);
// c (m, outputs) (+)= a (m, inputs) by f32 or bf16 panels.
void multiply(Run& run, const float* a, int m, const Panels& panels, float* c, bool accumulate);

// f32 operands as kernels read them, whole vectors of a row: a copy in the run's arena, rows padded to a multiple of 16 with zeros, or the
// data itself where it is that already.
struct Rows {
  const float* data;
  int64_t stride;
};
Rows readable(Run& run, const float* data, int rows, int cols);
Rows transposed(Run& run, const float* data, int rows, int cols);  // (cols, rows), always a copy
// c (m, n) (+)= alpha * A B with f32 operands as GemmF32 describes them, split over the pool.
void multiply_f32(Pool& pool, const GemmF32& product);
void multiply_f32(Run& run, std::span<const GemmF32> products);  // as one list of tasks

}  // namespace fettle
