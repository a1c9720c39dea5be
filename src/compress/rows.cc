#include "compress/rows.h"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace fettle {
namespace {

constexpr int64_t kTaskWeights = 32 << 10;  // weights that a thread takes at a time

// The loss of one row's blocks against its weights.
Loss row_loss(const float* weights, const float* decoded, const float* importance, int64_t cols) {
  Loss loss;
  for (int64_t c = 0; c < cols; c++) {
    const double w = importance ? double(importance[c]) : 1, e = double(weights[c]) - double(decoded[c]);
    loss.error += w * e * e;
    loss.energy += w * double(weights[c]) * double(weights[c]);
  }
  return loss;
}

bool finite(const float* x, int64_t n) {
  return std::all_of(x, x + n, [](float v) { return std::isfinite(v); });
}

Loss total(const std::vector<Loss>& rows) {
  Loss sum;
  for (const Loss& r : rows) {
    sum.error += r.error;
    sum.energy += r.energy;
  }
  return sum;
}

}  // namespace

double Loss::relative() const { return energy > 0 ? std::sqrt(error / energy) : 0; }

ColumnWeights column_weights(const NamedTensor& t, const std::vector<ImportanceEntry>* importance) {
  ColumnWeights weights;
  if (!importance) return weights;
  const auto found = std::find_if(importance->begin(), importance->end(), [&](const ImportanceEntry& e) { return e.name == t.name; });
  if (found == importance->end()) return weights;
  const int64_t cols = t.tensor.shape.cols(), n = int64_t(found->sum_squares.size());
  if (n == 0 || n % cols || t.tensor.shape.rows() % (n / cols))
    throw refused("importance of " + t.name, "has " + std::to_string(n) + " columns, the tensor is " + t.tensor.shape.text(),
                  "measure importance on this very model");
  double sum = 0;
  for (double s : found->sum_squares) {
    if (!(s >= 0) || !std::isfinite(s)) throw refused("importance of " + t.name, "holds numbers that are negative or not finite");
    sum += s;
  }
  if (sum <= 0 || !(found->tokens > 0)) return weights;  // nothing ever reached this linear
  for (double s : found->sum_squares) weights.values.push_back(float(s / found->tokens));
  return weights;
}

void decode_row(const Tensor& t, int64_t row, float* out) {
  const int64_t cols = t.shape.cols();
  t.format->decode(t.bytes.data() + row * t.format->bytes_for(cols), out, cols);
}

Loss encode_rows(const std::string& place, int64_t rows, int64_t cols, const Format& format, const Method& method,
                 const ColumnWeights& weights, const std::function<void(int64_t row, float* out)>& fill, Pool& pool, std::byte* blocks) {
  const int64_t each = std::max<int64_t>(1, kTaskWeights / cols), row_bytes = format.bytes_for(cols);
  std::vector<Loss> losses(static_cast<size_t>(rows));
  std::atomic<bool> broken = false;
  pool.run(int((rows + each - 1) / each), [&](int task) {
    std::vector<float> x(static_cast<size_t>(cols)), y(static_cast<size_t>(cols));
    for (int64_t r = task * each; r < std::min(rows, (task + 1) * each); r++) {
      const float* importance = weights.row(r, rows, cols);
      fill(r, x.data());
      if (!finite(x.data(), cols)) broken = true;
      method.encode(format, x.data(), blocks + r * row_bytes, cols, importance);
      format.decode(blocks + r * row_bytes, y.data(), cols);
      losses[size_t(r)] = row_loss(x.data(), y.data(), importance, cols);
    }
  });
  if (broken) throw refused(place, "holds weights that are not finite", "the file is damaged, or its training diverged");
  return total(losses);
}

Loss trial_loss(const Tensor& tensor, const std::vector<int64_t>& rows, const Format& format, const Method& method,
                const ColumnWeights& weights, Pool& pool) {
  const int64_t cols = tensor.shape.cols();
  std::vector<Loss> losses(rows.size());
  pool.run(int(rows.size()), [&](int i) {
    std::vector<float> x(static_cast<size_t>(cols)), y(static_cast<size_t>(cols));
    std::vector<std::byte> blocks(size_t(format.bytes_for(cols)));
    const float* importance = weights.row(rows[size_t(i)], tensor.shape.rows(), cols);
    decode_row(tensor, rows[size_t(i)], x.data());
    method.encode(format, x.data(), blocks.data(), cols, importance);
    format.decode(blocks.data(), y.data(), cols);
    losses[size_t(i)] = row_loss(x.data(), y.data(), importance, cols);
  });
  return total(losses);
}

}  // namespace fettle
