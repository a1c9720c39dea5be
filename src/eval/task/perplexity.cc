// Perplexity: exp of the mean negative log-probability of the scored tokens, computed as the engine serves (its precision and its cache's
// element). The interval takes windows (chunks, conversations) as independent, not tokens.
#include <cmath>

#include "eval/scored_text.h"

namespace fettle {
namespace {

// Losses of all scored rows of these windows, in order.
std::vector<double> losses_of(Reader& reader, std::span<const Window> windows, int rows, Pool& pool) {
  std::vector<int> targets;
  for (const Window& w : windows)
    for (int r : w.rows) targets.push_back(w.ids[size_t(r) + 1]);
  std::vector<double> losses(targets.size());
  reader.read(windows);
  for (int first = 0; first < rows; first += kLogitRows) {
    const int count = std::min(kLogitRows, rows - first), n = reader.vocabulary();
    const float* logits = reader.logits(first, count);
    pool.run(count, [&](int i) {
      const float* row = logits + int64_t(i) * n;
      losses[size_t(first + i)] = log_sum_exp(row, n) - double(row[targets[size_t(first + i)]]);
    });
  }
  return losses;
}

Score run(const EvalInput& input) {
  const double start = now_seconds();
  const std::vector<Window> windows = windows_of("perplexity", input);
  const EngineOptions& options = input.engine->options();
  Pool pool(options.threads);
  Reader reader(input.engine->model(), pool, options.precision, options.kv_element());
  Score score;
  score.task = "perplexity";
  std::vector<WindowSum> sums;
  for_batches(windows, input, [&](std::span<const Window> batch, int rows) {
    const std::vector<double> losses = losses_of(reader, batch, rows, pool);
    size_t at = 0;
    for (const Window& w : batch) {
      WindowSum s{0, int64_t(w.rows.size())};
      for (size_t i = 0; i < w.rows.size(); i++) s.sum += losses[at++];
      sums.push_back(s);
      score.tokens += s.count;
      score.row_scores.push_back({w.id, {}, {}, false, -s.sum});
    }
  });
  const Interval loss = ratio_interval(sums);
  if (!std::isfinite(loss.value)) throw input.engine->model().why_not_finite();
  score.rows = int64_t(windows.size());
  score.score = {std::exp(loss.value), std::exp(loss.low), std::exp(loss.high)};
  score.perplexity = score.score.value;
  score.seconds = now_seconds() - start;
  return score;
}

}  // namespace

extern const Task task_perplexity = {"perplexity", "how surprised the model is by each next token of a text or of the answers", run,
                                     [](const EvalInput& input) { return plan_windows("perplexity", input); }};

}  // namespace fettle
