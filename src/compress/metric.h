// The metric in which a linear's rounding errors count: H = X^T X over calibration rows, so that e H e^T is what an error e of one row of
// weights does to the outputs. Kept as H + damping = N D N^T with N unit upper triangular: then
//   e H e^T = sum_k D_k (e_k + sum_{j<k} e_j N_jk)^2,
// which says both how a method that goes through the columns in order should correct column k for the errors before it (by N's column k;
// this is GPTQ's update, Frantar et al. 2022, in the form of LDLQ, Chee et al. 2023: no inverse is needed), and how much column k then
// counts by itself (D_k). Private to the room.
#pragma once
#include <vector>

#include "compress/compress.h"

namespace fettle {

class InputMetric {
 public:
  // covariance: (n, n), of which the upper triangle is read; n a multiple of 16. One percent of the mean of its diagonal is added to the
  // diagonal, so that columns that no input reached (dead ones) and directions that the rows never showed keep a price.
  InputMetric(const float* covariance, int n, Pool& pool);
  int size() const { return n_; }
  // Row j of N: N_jk at [k], zero before j, one at j.
  const float* row(int64_t j) const { return factor_.data() + j * n_; }
  const float* diagonal() const { return diagonal_.data(); }  // D
  // e H e^T of m rows, e: (m, n).
  void squares(const float* rows, int m, double* sums, Pool& pool) const;

 private:
  int n_;
  std::vector<float> factor_, diagonal_;
};

}  // namespace fettle
