// Plain products of f32 matrices, for rooms that calculate with activations or weights themselves (compress).
#pragma once
#include <cstdint>

#include "base/base.h"

namespace fettle {

// c (m, n) (+)= alpha * a b, split over the pool; inside a task it runs in place. a: element (i, l) at a[i * a_row + l * a_step], so that a
// transposed matrix needs no copy. b: row l at b + l * b_row, readable up to the next multiple of 16 columns. c: row i at c + i * c_row.
// Sums run over l in order, whatever the threads.
struct MatrixProduct {
  const float* a;
  int64_t a_row, a_step;
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
  int m, n, k;
  float alpha = 1;
  bool accumulate = false;
};
void matrix_product(Pool& pool, const MatrixProduct& product);

}  // namespace fettle
