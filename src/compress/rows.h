// Tensors row by row: decoding, encoding and what encoding lost, split over threads so that every number is the same whatever their
// count (a row's error is summed alone, rows are added in order). Private to the room.
#pragma once
#include <string>
#include <vector>

#include "compress/metric.h"

namespace fettle {

// Importance as encode() wants it: (in) for all rows, or (groups, in) where a tensor is a stack of matrices (experts). Empty: none.
struct ColumnWeights {
  std::vector<float> values;
  const float* row(int64_t row, int64_t rows, int64_t cols) const {
    if (values.empty()) return nullptr;
    const int64_t groups = int64_t(values.size()) / cols;
    return values.data() + row / (rows / groups) * cols;
  }
};
// Error{refused} naming the tensor: another length, numbers that are negative or not finite.
ColumnWeights column_weights(const NamedTensor& tensor, const std::vector<ImportanceEntry>* importance);

// What is known of a tensor's inputs.
struct InputKnowledge {
  ColumnWeights weights;
  std::shared_ptr<const InputMetric> metric;  // nullptr: none
};

// Sums of x H x^T, or of importance * x^2 without a metric: of what was lost and of what was there.
struct Loss {
  double error = 0, energy = 0;
  double relative() const;  // RMS error / RMS
};

// Decodes row `row` of a tensor.
void decode_row(const Tensor& tensor, int64_t row, float* out);

// Error{refused} naming the tensor when a weight is not finite.
void require_finite(const std::string& place, const Tensor& tensor, Pool& pool);

// All rows -> blocks, which hold bytes_for(count). fill(row, out) gives a row's weights. Error{refused} naming the tensor when a weight is
// not finite.
Loss encode_rows(const std::string& place, int64_t rows, int64_t cols, const Format& format, const Method& method,
                 const InputKnowledge& inputs, const std::function<void(int64_t row, float* out)>& fill, Pool& pool, std::byte* blocks);

// What a format would lose, measured on these rows alone.
Loss trial_loss(const Tensor& tensor, const std::vector<int64_t>& rows, const Format& format, const Method& method,
                const InputKnowledge& inputs, Pool& pool);

}  // namespace fettle
