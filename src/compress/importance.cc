// Importance: how much each input column of each linear carries, E[x^2], measured by a tap on the model's own forward. The head's input is
// the final hidden state; where the head shares the embedding's bytes, that is what the embedding's importance is. The head itself is
// never multiplied: its input is all that is wanted. Source: llama.cpp's importance matrix (Kawrakow).
#include <algorithm>
#include <map>

#include "compress/compress.h"

namespace fettle {
namespace {

constexpr int kBatchTokens = 512;

// Sums squares per column in a fixed order, whatever the number of threads: a task owns columns.
class SumSquares final : public Tap {
 public:
  explicit SumSquares(Pool& pool) : pool_(pool) {}
  void input(const Linear& linear, const float* x, int rows) override {
    ImportanceEntry& entry = entries_[linear.name];
    if (entry.sum_squares.empty()) {
      entry.name = linear.name;
      entry.sum_squares.assign(size_t(linear.in), 0);
    }
    entry.tokens += rows;
    constexpr int kColumns = 64;
    const int cols = linear.in;
    pool_.run((cols + kColumns - 1) / kColumns, [&](int task) {
      const int first = task * kColumns, last = std::min(cols, first + kColumns);
      for (int r = 0; r < rows; r++)
        for (int c = first; c < last; c++) entry.sum_squares[size_t(c)] += double(x[int64_t(r) * cols + c]) * x[int64_t(r) * cols + c];
    });
  }
  std::map<std::string, ImportanceEntry> entries_;

 private:
  Pool& pool_;
};

}  // namespace

std::vector<ImportanceEntry> collect_importance(Model& model, const std::vector<std::vector<int>>& rows, Pool& pool,
                                                const std::function<void(size_t)>& progress) {
  SumSquares tap(pool);
  Arena arena;
  const size_t context = size_t(model.config.context);
  for (size_t i = 0; i < rows.size();) {
    stop_if_interrupted();
    Batch batch;
    int sequence = 0;
    while (i < rows.size() && (batch.rows() == 0 || batch.rows() + int(std::min(rows[i].size(), context)) <= kBatchTokens)) {
      // A row that is longer than the model's context is cut.
      const auto ids = std::span(rows[i]).first(std::min(rows[i].size(), context));
      for (int id : ids) {
        if (id < 0 || id >= model.config.vocabulary)
          throw refused("importance", "row " + std::to_string(i + 1) + " holds a token that the model has not");
      }
      if (!ids.empty()) batch.add(sequence++, 0, ids, false);
      i++;
    }
    if (batch.rows() == 0) continue;
    arena.reset();
    Run run{arena, pool, nullptr, nullptr, &tap, Precision::serving};
    const Var* states = model.network->hidden(run, batch);
    tap.input(model.head, states->data, states->rows);
    if (progress) progress(i);
  }
  if (tap.entries_.empty()) throw refused("importance", "there are no tokens to measure on");
  std::vector<ImportanceEntry> entries;
  for (Linear* l : model.linears()) {
    if (auto found = tap.entries_.find(l->name); found != tap.entries_.end()) entries.push_back(found->second);
  }
  entries.push_back(tap.entries_[model.head.name]);
  return entries;
}

}  // namespace fettle
