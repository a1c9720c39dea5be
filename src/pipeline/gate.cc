// The gate. A rule passes when the whole 95 % interval of what was measured lies on the right side of its limit: "not shown to be worse" is
// not enough (absence of evidence is easy to have: measure little). For a rule against the tuned model the interval is that of the paired
// difference on the same rows, which is far narrower than the two scores' own. A rule that misses says which way: "missed" when the
// interval lies wholly beyond the limit or the point itself does, "not proven" when the point is good and the rows are too few; then it
// says about how many rows would do at this rate of changed answers, and which margin these rows can prove.
#include "pipeline/gate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

namespace fettle {
namespace {

std::string print(const char* format, double a, double b = 0, double c = 0, double d = 0) {
  char text[256];
  std::snprintf(text, sizeof text, format, a, b, c, d);
  return text;
}

bool clears(const Rule& rule, double edge, double limit) {
  if (rule.comparison == "<") return edge < limit;
  if (rule.comparison == "<=") return edge <= limit;
  if (rule.comparison == ">") return edge > limit;
  return edge >= limit;
}

void decide(GateResult& r) {
  const bool lower = r.rule.comparison[0] == '>';
  r.passed = clears(r.rule, lower ? r.low : r.high, r.limit);
  r.verdict = r.passed ? "passed" : clears(r.rule, r.value, r.limit) ? "not proven" : "missed";
}

std::vector<double> right_wrong(const Score& score) {
  std::vector<double> values;
  for (const RowScore& row : score.row_scores) values.push_back(row.right);
  return values;
}

// The fewest rows, about, at which the interval that so many would have clears the rule; 0: ten million do not.
int64_t rows_needed(const Rule& rule, int64_t rows, const std::function<Interval(double)>& interval_of) {
  for (int64_t n = rows; n < 10000000; n += n / 100 + 1)
    if (const Interval i = interval_of(double(n)); clears(rule, rule.comparison[0] == '>' ? i.low : i.high, rule.value)) return n;
  return 0;
}

std::string unproven_hint(const GateResult& r, int64_t rows, const std::function<Interval(double)>& interval_of) {
  std::string text = print("; %.0f rows cannot prove it", double(rows));
  if (const int64_t needed = rows_needed(r.rule, rows, interval_of); needed > rows)
    text += print("; about %.0f more held-out rows would, if answers change at this rate", double(needed - rows));
  if (!r.rule.reference.empty())
    text += print("; what they do prove is a margin of %.0f pt", std::ceil(std::max(0.0, -r.low) * 100 - 1e-9));
  return text;
}

void judge_paired(GateResult& r, const Score& reference, const Score& compressed) {
  const Paired paired = paired_test(right_wrong(reference), right_wrong(compressed));
  const int64_t rows = int64_t(compressed.row_scores.size());
  r.value = paired.difference.value, r.low = paired.difference.low, r.high = paired.difference.high, r.limit = r.rule.value;
  decide(r);
  const std::string who = r.rule.reference == "base" ? "the base" : "the tuned model";
  r.explanation = print("%+.1f pt against ", r.value * 100) + who +
                  print(" on %.0f rows (%.0f lost, %.0f won), 95%% interval ", double(rows), double(paired.only_a), double(paired.only_b)) +
                  print("%+.1f to %+.1f pt, limit %+.1f pt", r.low * 100, r.high * 100, r.limit * 100);
  const double share_lost = double(paired.only_a) / double(rows), share_won = double(paired.only_b) / double(rows);
  if (r.verdict == "not proven")
    r.explanation += unproven_hint(r, rows, [&](double n) { return paired_difference(share_lost * n, share_won * n, n); });
  if (r.passed && paired.only_a + paired.only_b == 0) r.explanation += ": no answer changed";
  if (paired.both + paired.only_a == 0 && compressed.score.value == 0) {
    r.passed = false;
    r.verdict = "not proven";
    r.explanation = "no held-out row is answered word for word by " + who +
                    " or after compressing, so equal scores say nothing; for free text ask for kl<0.02 instead";
  }
}

void judge_accuracy(GateResult& r, const Measured& m) {
  if (!r.rule.reference.empty()) return judge_paired(r, r.rule.reference == "base" ? *m.base : *m.tuned, *m.compressed);
  const Interval& score = m.compressed->score;
  r.value = score.value, r.low = score.low, r.high = score.high, r.limit = r.rule.value;
  decide(r);
  const int64_t rows = int64_t(m.compressed->row_scores.size());
  r.explanation = print("%.1f %% of %.0f rows", r.value * 100, double(rows)) +
                  print(", 95%% interval %.1f to %.1f %%, limit %.1f %%", r.low * 100, r.high * 100, r.limit * 100);
  if (r.verdict == "not proven")
    r.explanation += unproven_hint(r, rows, [&](double n) { return wilson(std::lround(score.value * n), int64_t(n)); });
}

void judge_measured(GateResult& r, const std::optional<Interval>& measured, double scale, const char* unit) {
  if (!measured) {
    r.verdict = "not proven";
    r.explanation = r.rule.metric + " was not measured";
    return;
  }
  r.value = measured->value, r.low = measured->low, r.high = measured->high, r.limit = r.rule.value;
  decide(r);
  r.explanation = print("%.4g", r.value * scale) + unit +
                  print(", 95%% interval %.4g to %.4g, limit %.4g", r.low * scale, r.high * scale, r.limit * scale) + unit;
}

}  // namespace

std::string hard_to_prove(const Rule& rule, int64_t rows) {
  if (rule.metric != "accuracy" || rule.reference != "base_tuned" || rule.value > 0 || rows < 1) return "";
  constexpr double kChanged = 0.05;  // of the answers, half for the better
  const auto interval_of = [](double n) { return paired_difference(kChanged / 2 * n, kChanged / 2 * n, n); };
  const int64_t needed = rows_needed(rule, rows, interval_of);
  if (needed == rows) return "";
  std::string text = rule.text + print(": %.0f held-out rows prove a margin of about %.1f pt, when one answer in twenty changes",
                                       double(rows), -interval_of(double(rows)).low * 100);
  if (needed > 0) text += print("; %.4g pt take about %.0f rows", -rule.value * 100, double(needed));
  return text;
}

GateResult judge(const Rule& rule, const Measured& measured) {
  GateResult r;
  r.rule = rule;
  if (rule.metric == "size") {
    r.value = r.low = r.high = measured.bytes, r.limit = rule.value;
    decide(r);
    r.explanation = format_bytes(r.value) + ", limit " + format_bytes(r.limit);
  } else if (rule.metric == "accuracy") {
    judge_accuracy(r, measured);
  } else if (rule.metric == "latency") {
    judge_measured(r, measured.seconds_per_token, 1e3, " ms/token");
  } else {
    judge_measured(r, measured.kl, 1, " nats");
  }
  return r;
}

}  // namespace fettle
