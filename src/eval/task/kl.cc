// KL: what a compressed model lost. At every scored position KL(reference || candidate) of the next-token distributions; the candidate as
// the engine serves it, the reference in plain f32 on its decoded weights. kl_stderr takes positions as independent, as the peers' figures
// do; the score's interval takes windows. Sums over the vocabulary are double.
#include <algorithm>
#include <cmath>

#include "eval/scored_text.h"

namespace fettle {
namespace {

ScoredRows compare(const float* reference, const float* candidate, int n, int target) {
  const double p_sum = log_sum_exp(reference, n), q_sum = log_sum_exp(candidate, n);
  double kl = 0;
  for (int i = 0; i < n; i++) {
    const double p_log = double(reference[i]) - p_sum;
    if (p_log > -60) kl += std::exp(p_log) * (p_log - (double(candidate[i]) - q_sum));
  }
  return {q_sum - double(candidate[target]), p_sum - double(reference[target]), kl, argmax(reference, n) == argmax(candidate, n)};
}

void check_pair(const EvalInput& input) {
  if (!input.reference) throw usage("the task 'kl' needs a reference model", "name it with --reference");
  const Model &candidate = input.engine->model(), &reference = *input.reference;
  const std::string place = reference.file->path().string();
  if (candidate.config.vocabulary != reference.config.vocabulary)
    throw refused(place, "the reference has " + std::to_string(reference.config.vocabulary) + " tokens, the model " +
                             std::to_string(candidate.config.vocabulary));
  if (!candidate.same_tokens(reference)) throw refused(place, "the reference has another tokenizer than the model");
  if (reference.config.context < candidate.config.context && input.chunk_tokens > reference.config.context)
    throw refused(place, "the reference's context is shorter than a chunk");
}

// The q-quantile with linear interpolation, as NumPy and PyTorch take it.
double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * double(values.size() - 1);
  const size_t low = size_t(at), high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - double(low)) * (values[high] - values[low]);
}

struct Totals {
  std::vector<double> kl;
  std::vector<WindowSum> windows;
  double loss = 0, reference_loss = 0;
  int64_t same = 0;
};

void add_batch(Totals& t, std::span<const Window> batch, const std::vector<ScoredRows>& scored, Score& score) {
  size_t at = 0;
  for (const Window& w : batch) {
    WindowSum sum{0, int64_t(w.rows.size())};
    double loss = 0;
    for (size_t i = 0; i < w.rows.size(); i++) {
      const ScoredRows& s = scored[at++];
      t.kl.push_back(s.kl);
      sum.sum += s.kl;
      loss += s.loss;
      t.reference_loss += s.reference_loss;
      t.same += s.same;
    }
    t.loss += loss;
    t.windows.push_back(sum);
    score.row_scores.push_back({w.id, {}, {}, false, -loss});
  }
}

void finish(const EvalInput& input, const Totals& t, Score& score) {
  const double n = double(t.kl.size());
  double squares = 0;
  score.score = ratio_interval(t.windows);
  score.kl_mean = score.score.value;
  if (!std::isfinite(t.reference_loss)) throw input.reference->why_not_finite();
  if (!std::isfinite(t.loss) || !std::isfinite(score.kl_mean)) throw input.engine->model().why_not_finite();
  for (double k : t.kl) squares += (k - score.kl_mean) * (k - score.kl_mean);
  score.kl_stderr = n > 1 ? std::sqrt(squares / (n - 1) / n) : 0;
  score.kl_p99 = quantile(t.kl, 0.99);
  score.same_top1 = double(t.same) / n;
  score.perplexity = std::exp(t.loss / n);
  score.reference_perplexity = std::exp(t.reference_loss / n);
  score.tokens = int64_t(t.kl.size());
}

Score run(const EvalInput& input) {
  const double start = now_seconds();
  check_pair(input);
  const std::vector<Window> windows = windows_of("kl", input);
  const EngineOptions& options = input.engine->options();
  Pool pool(options.threads);
  Reader candidate(input.engine->model(), pool, options.precision, options.kv_element());
  Reader reference(*input.reference, pool, Precision::exact, find_format("F32"));
  const int n = candidate.vocabulary();
  Score score;
  score.task = "kl";
  score.rows = int64_t(windows.size());
  Totals totals;
  for_batches(windows, input, [&](std::span<const Window> batch, int rows) {
    std::vector<int> targets;
    for (const Window& w : batch)
      for (int r : w.rows) targets.push_back(w.ids[size_t(r) + 1]);
    std::vector<ScoredRows> scored(targets.size());
    candidate.read(batch);
    reference.read(batch);
    for (int first = 0; first < rows; first += kLogitRows) {
      const int count = std::min(kLogitRows, rows - first);
      const float *q = candidate.logits(first, count), *p = reference.logits(first, count);
      pool.run(count,
               [&](int i) { scored[size_t(first + i)] = compare(p + int64_t(i) * n, q + int64_t(i) * n, n, targets[size_t(first + i)]); });
    }
    add_batch(totals, batch, scored, score);
  });
  finish(input, totals, score);
  score.seconds = now_seconds() - start;
  return score;
}

EvalWork plan(const EvalInput& input) {
  check_pair(input);
  EvalWork work = plan_windows("kl", input);
  work.reference = true;
  return work;
}

}  // namespace

extern const Task task_kl = {"kl", "how far the next-token distributions are from a reference model's", run, plan};

}  // namespace fettle
