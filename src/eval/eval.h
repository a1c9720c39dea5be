// Room eval: scores with intervals, paired tests, one report shape. A task is one file in task/.
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace fettle {

struct Interval {
  double value = 0, low = 0, high = 0;
};
Interval wilson(int64_t right, int64_t n);                  // 95 %, a share
Interval mean_interval(const std::vector<double>& values);  // 95 %, normal
// 95 %, the difference (won - lost) / n of two shares on the same n rows; lost and won: rows right only before, only after (Tango 1998).
Interval paired_difference(double lost, double won, double n);
// Difference of two scores measured on the same rows (b - a). Right/wrong rows: paired_difference and the exact McNemar p-value. Others:
// bootstrap percentile interval and sign-flip p-value, both with a fixed seed.
struct Paired {
  Interval difference;
  double p_value = 1;
  int64_t only_a = 0, only_b = 0, both = 0, neither = 0;
};
Paired paired_test(const std::vector<double>& a, const std::vector<double>& b);

struct RowScore {
  int64_t id = 0;  // index into the data
  std::string expected, answer;
  bool right = false;
  double log_prob = 0;  // of the answer given
};
struct Score {
  std::string task;
  int64_t rows = 0, tokens = 0;
  Interval score;  // accuracy (exact, choice), perplexity, mean KL
  std::vector<RowScore> row_scores;
  // kl only
  double kl_mean = 0, kl_stderr = 0, kl_p99 = 0, same_top1 = 0, perplexity = 0, reference_perplexity = 0;
  double seconds = 0;
};

struct EvalInput {
  Engine* engine = nullptr;    // the model under test
  Model* reference = nullptr;  // kl
  const std::vector<Example>* examples = nullptr;
  std::string text;                        // perplexity, kl on plain text, instead of examples
  int chunk_tokens = 512, max_chunks = 0;  // plain text protocol: second half of each chunk is scored
  int max_tokens = 64;                     // answers of exact
  std::function<void(int64_t done, int64_t total)> progress;
};

// What a task will do, about.
struct EvalWork {
  int64_t rows = 0;
  int64_t read_tokens = 0;    // of questions and texts; what all questions begin with is read once
  int64_t scored_tokens = 0;  // read ones whose predictions are looked at
  int64_t answer_tokens = 0;  // made one after another, at most
  bool reference = false;     // which reads the same, in f32
};

struct Task {
  const char* name;  // "exact", "choice", "perplexity", "kl"
  const char* description;
  Score (*run)(const EvalInput& input);
  EvalWork (*plan)(const EvalInput& input);  // refuses what run() would refuse before it computes anything
};
std::span<const Task* const> tasks();
const Task& find_task(const std::string& name);  // Error{usage} with a suggestion

// Which rows changed between two scores of the same rows.
struct Flip {
  int64_t id = 0;
  std::string expected, before, after;
  bool mended = false;
};
std::vector<Flip> flipped(const Score& before, const Score& after);

}  // namespace fettle
