#include "compress/rows.h"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace fettle {
namespace {

constexpr int64_t kTaskWeights = 32 << 10;  // weights that a thread takes at a time

constexpr int kTrialRows = 8;  // the same in rows, where few rows are tried

// The losses of rows that were decoded again, each alone.
void row_losses(const Encoding& e, const float* weights, const float* decoded, int rows, Loss* losses) {
  if (e.metric) {
    std::vector<float> errors(size_t(rows * e.cols));
    std::vector<double> sums(size_t(rows) * 2);
    for (size_t i = 0; i < errors.size(); i++) errors[i] = weights[i] - decoded[i];
    e.metric->squares(errors.data(), rows, sums.data(), e.pool);
    e.metric->squares(weights, rows, sums.data() + rows, e.pool);
    for (int r = 0; r < rows; r++) losses[r] = {sums[size_t(r)], sums[size_t(rows + r)]};
    return;
  }
  for (int r = 0; r < rows; r++) {
    losses[r] = {};
    for (int64_t c = 0; c < e.cols; c++) {
      const double w = e.importance ? double(e.importance[c]) : 1, x = double(weights[r * e.cols + c]);
      const double error = x - double(decoded[r * e.cols + c]);
      losses[r].error += w * error * error;
      losses[r].energy += w * x * x;
    }
  }
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

namespace {

const ImportanceEntry* find_entry(const std::vector<ImportanceEntry>& importance, const std::string& name) {
  const auto found = std::find_if(importance.begin(), importance.end(), [&](const ImportanceEntry& e) { return e.name == name; });
  return found == importance.end() ? nullptr : &*found;
}

double checked_sum(const ImportanceEntry& e) {
  double sum = 0;
  for (double s : e.sum_squares) {
    if (!(s >= 0) || !std::isfinite(s)) throw refused("importance of " + e.name, "holds numbers that are negative or not finite");
    sum += s;
  }
  return sum;
}

// Of each expert of a stack by itself; those that no row came to are taken for what experts are on average.
ColumnWeights stack_weights(const NamedTensor& t, const std::vector<ImportanceEntry>& importance) {
  ColumnWeights weights;
  const size_t n = size_t(t.tensor.shape.dim[0]), cols = size_t(t.tensor.shape.cols());
  std::vector<const ImportanceEntry*> entries(n);
  for (const ImportanceEntry& e : importance)
    if (const auto place = expert_place(e.name); place && place->stack == t.name && size_t(place->expert) < n)
      entries[size_t(place->expert)] = &e;
  std::vector<double> all(cols);
  double rows = 0;
  for (const ImportanceEntry*& e : entries) {
    if (!e) continue;
    if (e->sum_squares.size() != cols)
      throw refused("importance of " + e->name,
                    "has " + std::to_string(e->sum_squares.size()) + " columns, the stack is " + t.tensor.shape.text(),
                    "measure importance on this very model");
    if (checked_sum(*e) <= 0 || !(e->tokens > 0)) e = nullptr;
    if (!e) continue;
    rows += e->tokens;
    for (size_t c = 0; c < cols; c++) all[c] += e->sum_squares[c];
  }
  if (!(rows > 0)) return weights;
  for (const ImportanceEntry* e : entries)
    for (size_t c = 0; c < cols; c++) weights.values.push_back(float(e ? e->sum_squares[c] / e->tokens : all[c] / rows));
  return weights;
}

}  // namespace

ColumnWeights column_weights(const NamedTensor& t, const std::vector<ImportanceEntry>* importance) {
  ColumnWeights weights;
  if (!importance) return weights;
  const ImportanceEntry* found = find_entry(*importance, t.name);
  if (!found) return t.tensor.shape.n == 3 && !expert_name(t.name, 0).empty() ? stack_weights(t, *importance) : weights;
  const int64_t cols = t.tensor.shape.cols(), n = int64_t(found->sum_squares.size());
  if (n == 0 || n % cols || t.tensor.shape.rows() % (n / cols))
    throw refused("importance of " + t.name, "has " + std::to_string(n) + " columns, the tensor is " + t.tensor.shape.text(),
                  "measure importance on this very model");
  if (checked_sum(*found) <= 0 || !(found->tokens > 0)) return weights;  // nothing ever reached this linear
  for (double s : found->sum_squares) weights.values.push_back(float(s / found->tokens));
  return weights;
}

void decode_row(const Tensor& t, int64_t row, float* out) {
  const int64_t cols = t.shape.cols();
  t.format->decode(t.bytes.data() + row * t.format->bytes_for(cols), out, cols);
}

namespace {

// A group of rows through a method and back. Rows of one stack of matrices only, which all share their importance.
bool through(const Encoding& e, const Method& method, int rows, const std::function<void(int row, float* out)>& fill, std::byte* blocks,
             Loss* losses) {
  std::vector<float> x(size_t(rows * e.cols)), y(x.size());
  for (int r = 0; r < rows; r++) fill(r, x.data() + r * e.cols);
  if (!finite(x.data(), int64_t(x.size()))) return false;
  method.encode(e, x.data(), rows, blocks);
  for (int r = 0; r < rows; r++) e.format.decode(blocks + r * e.format.bytes_for(e.cols), y.data() + r * e.cols, e.cols);
  row_losses(e, x.data(), y.data(), rows, losses);
  return true;
}

}  // namespace

void require_finite(const std::string& place, const Tensor& tensor, Pool& pool) {
  const int64_t rows = tensor.shape.rows(), cols = tensor.shape.cols(), each = std::max<int64_t>(1, kTaskWeights / cols);
  std::atomic<bool> broken = false;
  pool.run(int((rows + each - 1) / each), [&](int task) {
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = task * each; r < std::min(rows, (task + 1) * each); r++) {
      decode_row(tensor, r, row.data());
      if (!finite(row.data(), cols)) broken = true;
    }
  });
  if (broken) throw not_finite(place);
}

Loss encode_rows(const std::string& place, int64_t rows, int64_t cols, const Format& format, const Method& method,
                 const InputKnowledge& inputs, const std::function<void(int64_t row, float* out)>& fill, Pool& pool, std::byte* blocks) {
  const int64_t groups = inputs.weights.values.empty() ? 1 : int64_t(inputs.weights.values.size()) / cols, group = rows / groups;
  const int64_t each = std::clamp<int64_t>(kTaskWeights / cols, 1, std::max<int64_t>(group, 1)), tasks = (group + each - 1) / each;
  std::vector<Loss> losses(static_cast<size_t>(rows));
  std::atomic<bool> broken = false;
  pool.run(int(groups * tasks), [&](int task) {
    const int64_t first = task / tasks * group + task % tasks * each, n = std::min(each, (task / tasks + 1) * group - first);
    const Encoding e{format, cols, inputs.weights.row(first, rows, cols), inputs.metric.get(), pool};
    if (!through(
            e, method, int(n), [&](int r, float* out) { fill(first + r, out); }, blocks + first * format.bytes_for(cols),
            losses.data() + first))
      broken = true;
  });
  if (broken) throw not_finite(place);
  return total(losses);
}

Loss trial_loss(const Tensor& tensor, const std::vector<int64_t>& rows, const Format& format, const Method& method,
                const InputKnowledge& inputs, Pool& pool) {
  const int64_t cols = tensor.shape.cols();
  // Rows of a stack of matrices differ in their importance: each goes alone.
  const bool stacked = int64_t(inputs.weights.values.size()) > cols;
  const int each = stacked ? 1 : kTrialRows;
  std::vector<Loss> losses(rows.size());
  pool.run((int(rows.size()) + each - 1) / each, [&](int task) {
    const size_t first = size_t(task * each);
    const int n = std::min(each, int(rows.size() - first));
    std::vector<std::byte> blocks(size_t(n * format.bytes_for(cols)));
    const Encoding e{format, cols, inputs.weights.row(rows[first], tensor.shape.rows(), cols), inputs.metric.get(), pool};
    through(
        e, method, n, [&](int r, float* out) { decode_row(tensor, rows[first + size_t(r)], out); }, blocks.data(), losses.data() + first);
  });
  return total(losses);
}

}  // namespace fettle
