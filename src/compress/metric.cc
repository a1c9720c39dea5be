// The factor of a linear's metric: a blocked Cholesky decomposition from the last column to the first (H = V V^T, V upper triangular), its
// columns then divided by their diagonal. The trailing update, where the work is, is a product of matrices; the rest is O(n^2 block).
#include "compress/metric.h"

#include <algorithm>
#include <cmath>

#include "op/product.h"

namespace fettle {
namespace {

constexpr int kBlock = 64, kStrip = 128;
constexpr double kDamping = 0.01;

// V of the rows [first, last) in the columns [k0, k1): row i of V V^T = A, given the rows of V that lie in the block.
void solve_row(float* a, int64_t n, int64_t i, int k0, int k1, double least) {
  float* row = a + i * n;
  for (int64_t j = k1 - 1; j >= std::max<int64_t>(k0, i); j--) {
    const float* pivot = a + j * n;
    double sum = row[j];
    for (int64_t l = j + 1; l < k1; l++) sum -= double(row[l]) * double(pivot[l]);
    row[j] = float(i == j ? std::sqrt(std::max(sum, least)) : sum / double(pivot[j]));
  }
}

// A[0..k0) -= P P^T, the upper triangle; P: columns [k0, k1) of the rows above.
void update(float* a, int n, int k0, int k1, Pool& pool) {
  const int width = k1 - k0;
  std::vector<float> transposed(size_t(width) * size_t(k0));
  pool.run((k0 + 63) / 64, [&](int task) {
    for (int i = task * 64; i < std::min(k0, task * 64 + 64); i++)
      for (int l = 0; l < width; l++) transposed[size_t(l) * size_t(k0) + size_t(i)] = a[int64_t(i) * n + k0 + l];
  });
  for (int j = 0; j < k0; j += kStrip) {
    const int last = std::min(k0, j + kStrip);
    matrix_product(pool, {a + k0, n, 1, transposed.data() + j, k0, a + j, n, last, last - j, width, -1.0f, true});
  }
}

}  // namespace

InputMetric::InputMetric(const float* covariance, int n, Pool& pool) : n_(n), factor_(size_t(n) * size_t(n)), diagonal_(size_t(n)) {
  CHECK(n % 16 == 0, "a metric's size is a multiple of 16");
  std::copy_n(covariance, factor_.size(), factor_.begin());
  float* a = factor_.data();
  double trace = 0;
  for (int64_t j = 0; j < n; j++) trace += double(a[j * n + j]);
  const double damping = std::max(kDamping * trace / n, 1e-30);
  for (int64_t j = 0; j < n; j++) a[j * n + j] = float(double(a[j * n + j]) + damping);
  for (int k0 = (n - 1) / kBlock * kBlock; k0 >= 0; k0 -= kBlock) {
    const int k1 = std::min(n, k0 + kBlock);
    for (int64_t i = k1 - 1; i >= k0; i--) solve_row(a, n, i, k0, k1, 0.1 * damping);
    pool.run((k0 + 15) / 16, [&](int task) {
      for (int64_t i = task * 16; i < std::min(k0, task * 16 + 16); i++) solve_row(a, n, i, k0, k1, 0);
    });
    update(a, n, k0, k1, pool);
  }
  for (int64_t j = 0; j < n; j++) diagonal_[size_t(j)] = a[j * n + j] * a[j * n + j];
  pool.run((n + 15) / 16, [&](int task) {
    for (int64_t i = task * 16; i < std::min<int64_t>(n, task * 16 + 16); i++) {
      float* row = a + i * n;
      std::fill(row, row + i, 0.0f);
      for (int64_t k = i + 1; k < n; k++) row[k] /= std::sqrt(diagonal_[size_t(k)]);
      row[i] = 1;
    }
  });
}

void InputMetric::squares(const float* rows, int m, double* sums, Pool& pool) const {
  std::vector<float> strip(size_t(m) * kBlock);
  std::fill(sums, sums + m, 0.0);
  for (int k0 = 0; k0 < n_; k0 += kBlock) {
    const int width = std::min(kBlock, n_ - k0);
    matrix_product(pool, {rows, n_, 1, factor_.data() + k0, n_, strip.data(), kBlock, m, width, k0 + width});
    for (int r = 0; r < m; r++)
      for (int k = 0; k < width; k++) {
        const double p = strip[size_t(r) * kBlock + size_t(k)];
        sums[r] += double(diagonal_[size_t(k0 + k)]) * p * p;
      }
  }
}

}  // namespace fettle
