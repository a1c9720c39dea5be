// Calibration: what each linear's input looks like, measured by a tap on the model's own forward: E[x^2] per column (importance) and X^T X
// (covariance). Linears that read the same input share one matrix. The head's input is the final hidden state; where the head shares the
// embedding's bytes, that is what the embedding's importance is. The head itself is never multiplied: its input is all that is wanted.
// Matrices are kept up to a budget; others are measured by another pass over the same rows when they are asked for.
// Sources: llama.cpp's importance matrix (Kawrakow); GPTQ (Frantar et al. 2022).
#include <algorithm>

#include "compress/compress.h"
#include "op/product.h"

namespace fettle {
namespace {

constexpr int kBatchTokens = 512, kStrip = 128;

std::string layer_of(const std::string& name) {
  const size_t first = name.find('.');
  return name.substr(0, first == name.npos ? first : name.find('.', first + 1));
}

// Rows spread over all, so that they hold about `limit` tokens; each no longer than the model's context.
std::vector<std::vector<int>> thinned(const std::vector<std::vector<int>>& rows, size_t context, int64_t limit, int vocabulary) {
  int64_t total = 0, seen = 0, kept = 0;
  for (size_t i = 0; i < rows.size(); i++) {
    for (int id : rows[i])
      if (id < 0 || id >= vocabulary)
        throw refused("calibration", "row " + std::to_string(i + 1) + " holds a token that the model has not");
    total += int64_t(std::min(rows[i].size(), context));
  }
  std::vector<std::vector<int>> chosen;
  for (const std::vector<int>& row : rows) {
    const int64_t n = int64_t(std::min(row.size(), context));
    seen += n;
    if (n == 0 || (total > limit && double(kept) + double(n) / 2 > double(limit) * double(seen) / double(total))) continue;
    kept += n;
    chosen.emplace_back(row.begin(), row.begin() + n);
  }
  if (chosen.empty()) throw refused("calibration", "there are no tokens to measure on");
  return chosen;
}

// Which linears read the same input, in the order of the forward pass. Experts are told apart by their numbers: where no row comes to one,
// its input is where the next one's begins.
class Sharing final : public Tap {
 public:
  std::vector<Calibration::Input> inputs;
  void input(const Linear& linear, const float* x, int) override {
    if (x != last_ || inputs.empty() || inputs.back().in != linear.in || !same_place(inputs.back().names[0], linear.name))
      inputs.push_back({linear.in, {}, {}, 0, {}});
    inputs.back().names.push_back(linear.name);
    last_ = x;
  }

 private:
  static bool same_place(const std::string& a, const std::string& b) {
    const auto one = expert_place(a), other = expert_place(b);
    return layer_of(a) == layer_of(b) && (one ? one->expert : -1) == (other ? other->expert : -1);
  }
  const float* last_ = nullptr;
};

// upper triangle of h += x^T x, a few rows at a time: a kernel walks down columns, whose lines then stay in the first cache.
void add_products(Pool& pool, const float* x, int rows, int n, float* h) {
  constexpr int kRows = 64;
  pool.run((n + kStrip - 1) / kStrip, [&](int task) {
    const int j = (n / kStrip * kStrip == n ? n / kStrip - 1 - task : n / kStrip - task) * kStrip, last = std::min(n, j + kStrip);
    for (int r = 0; r < rows; r += kRows) {
      const float* at = x + int64_t(r) * n;
      matrix_product(pool, {at, 1, n, at + j, n, h + j, n, last, last - j, std::min(kRows, rows - r), 1.0f, true});
    }
  });
}

bool has_covariance(const Calibration::Input& i) { return i.in % 16 == 0 && !expert_place(i.names[0]); }

class Sums final : public Tap {
 public:
  Sums(std::vector<Calibration::Input>& inputs, bool squares, Pool& pool) : squares_(squares), pool_(pool) {
    for (Calibration::Input& i : inputs) first_[i.names[0]] = &i;
  }
  void input(const Linear& linear, const float* x, int rows) override {
    const auto found = first_.find(linear.name);
    if (found == first_.end()) return;  // shares the input of one that was counted
    Calibration::Input& i = *found->second;
    if (squares_) {
      add_squares(x, rows, i);
      i.rows += rows;
    }
    if (!i.covariance.empty()) add_products(pool_, x, rows, i.in, i.covariance.data());
  }

 private:
  // In a fixed order, whatever the number of threads: a task owns columns.
  void add_squares(const float* x, int rows, Calibration::Input& i) {
    constexpr int kColumns = 64;
    pool_.run((i.in + kColumns - 1) / kColumns, [&](int task) {
      const int first = task * kColumns, last = std::min(i.in, first + kColumns);
      for (int r = 0; r < rows; r++)
        for (int c = first; c < last; c++) i.sum_squares[size_t(c)] += double(x[int64_t(r) * i.in + c]) * x[int64_t(r) * i.in + c];
    });
  }
  std::map<std::string, Calibration::Input*> first_;
  const bool squares_;
  Pool& pool_;
};

}  // namespace

Calibration::Calibration(std::shared_ptr<Model> model, const std::vector<std::vector<int>>& rows, Pool& pool,
                         const std::function<void(size_t, size_t)>& progress, const Limits& limits)
    : model_(std::move(model)), limits_(limits) {
  rows_ = thinned(rows, size_t(model_->config.context), limits.tokens, model_->config.vocabulary);
  for (const auto& row : rows_) tokens_ += double(row.size());
  Sharing sharing;
  forward({{rows_[0][0]}}, sharing, pool, {});
  inputs_ = std::move(sharing.inputs);
  for (Input& i : inputs_) i.sum_squares.assign(size_t(i.in), 0);
  pass(0, true, pool, progress);
}

void Calibration::forward(const std::vector<std::vector<int>>& rows, Tap& tap, Pool& pool,
                          const std::function<void(size_t, size_t)>& progress) {
  Arena arena;
  for (size_t i = 0; i < rows.size();) {
    stop_if_interrupted();
    Batch batch;
    for (int sequence = 0; i < rows.size() && (sequence == 0 || batch.rows() + int(rows[i].size()) <= kBatchTokens); i++)
      batch.add(sequence++, 0, rows[i], false);
    arena.reset();
    Run run{arena, pool, nullptr, nullptr, &tap, Precision::serving};
    const Var* states = model_->network->hidden(run, batch);
    if (model_->config.causal) tap.input(model_->head, states->data, states->rows);
    if (progress) progress(i, rows.size());
  }
}

void Calibration::pass(size_t first, bool squares, Pool& pool, const std::function<void(size_t, size_t)>& progress) {
  for (Input& i : inputs_) std::vector<float>().swap(i.covariance);
  uint64_t bytes = 0;
  size_t kept = 0;
  for (; kept < inputs_.size(); kept++) {
    Input& i = inputs_[(first + kept) % inputs_.size()];
    if (!has_covariance(i)) continue;
    const uint64_t more = uint64_t(i.in) * uint64_t(i.in) * sizeof(float);
    if (bytes > 0 && bytes + more > limits_.bytes) break;
    bytes += more;
    i.covariance.assign(size_t(i.in) * size_t(i.in), 0.0f);
  }
  Sums sums(inputs_, squares, pool);
  forward(rows_, sums, pool, progress);
  if (kept == inputs_.size()) model_.reset();  // nothing is left to measure
}

const float* Calibration::covariance(const std::string& name, Pool& pool) {
  for (size_t i = 0; i < inputs_.size(); i++) {
    if (std::find(inputs_[i].names.begin(), inputs_[i].names.end(), name) == inputs_[i].names.end()) continue;
    if (!has_covariance(inputs_[i])) return nullptr;
    if (inputs_[i].covariance.empty()) pass(i, false, pool, {});
    return inputs_[i].covariance.data();
  }
  return nullptr;
}

std::vector<ImportanceEntry> Calibration::importance() const {
  std::vector<ImportanceEntry> entries;
  for (const Input& i : inputs_)
    for (const std::string& name : i.names) entries.push_back({name, i.sum_squares, i.rows});
  return entries;
}

}  // namespace fettle
