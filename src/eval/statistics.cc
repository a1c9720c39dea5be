// Intervals and paired tests. Wilson's score interval for shares (Wilson 1927), the normal interval for means; for differences on the same
// rows Tango's score interval (Tango 1998) and McNemar's exact test (two-sided binomial on the rows that changed) of right and wrong, the
// percentile bootstrap (Efron 1979) and sign flips of other scores. A bootstrap of right and wrong would call ten rows of which none
// changed a proof that nothing changes. Not handled: rows that depend on each other; callers give one value per independent unit.
#include <algorithm>
#include <cmath>
#include <limits>

#include "eval/eval.h"

namespace fettle {
namespace {

constexpr double kZ = 1.959963984540054;  // 97.5 % point of the normal distribution
constexpr int kResamples = 10000;
constexpr uint64_t kSeed = 20260401;

bool binary(const std::vector<double>& v) {
  return std::all_of(v.begin(), v.end(), [](double x) { return x == 0 || x == 1; });
}

// Two-sided: twice the lower tail of Binomial(n, 1/2) at the smaller count, at most 1. Terms through logarithms, so any n will do.
double mcnemar(int64_t only_a, int64_t only_b) {
  const int64_t n = only_a + only_b, least = std::min(only_a, only_b);
  if (n == 0) return 1;
  double tail = 0;
  for (int64_t k = 0; k <= least; k++)
    tail += std::exp(std::lgamma(double(n) + 1) - std::lgamma(double(k) + 1) - std::lgamma(double(n - k) + 1) - double(n) * std::log(2.0));
  return std::min(1.0, 2 * tail);
}

// For scores that are no shares: how often flipping each row's sign at random gives a mean difference at least this large.
double sign_flip(const std::vector<double>& differences) {
  double observed = 0;
  for (double d : differences) observed += d;
  Random random(kSeed, 2);
  int as_large = 0;
  for (int r = 0; r < kResamples; r++) {
    double sum = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < differences.size(); i++, bits >>= 1) {
      if (i % 32 == 0) bits = random.next();
      sum += bits & 1 ? differences[i] : -differences[i];
    }
    as_large += std::fabs(sum) >= std::fabs(observed) * (1 - 1e-12);
  }
  return double(as_large + 1) / (kResamples + 1);
}

Interval bootstrap(const std::vector<double>& values) {
  const size_t n = values.size();
  double mean = 0;
  for (double v : values) mean += v / double(n);
  Random random(kSeed, 1);
  std::vector<double> means(kResamples);
  for (double& m : means) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[random.below(uint32_t(n))];
    m = sum / double(n);
  }
  std::sort(means.begin(), means.end());
  const auto at = [&](double share) { return means[size_t(std::lround(share * (kResamples - 1)))]; };
  return {mean, at(0.025), at(0.975)};
}

}  // namespace

Interval wilson(int64_t right, int64_t n) {
  CHECK(right >= 0 && right <= n, "no more right than rows");
  if (n == 0) return {0, 0, 1};
  const double p = double(right) / double(n), z2 = kZ * kZ / double(n), d = 1 + z2;
  const double middle = (p + z2 / 2) / d, half = kZ * std::sqrt(p * (1 - p) / double(n) + z2 / (4 * double(n))) / d;
  // At the ends the formula is exact but for rounding.
  return {p, right == 0 ? 0 : middle - half, right == n ? 1 : middle + half};
}

Interval mean_interval(const std::vector<double>& values) {
  const double infinity = std::numeric_limits<double>::infinity(), n = double(values.size());
  double mean = 0, squares = 0;
  for (double v : values) mean += v / n;
  if (values.size() < 2) return {mean, -infinity, infinity};  // one value says nothing about its spread
  for (double v : values) squares += (v - mean) * (v - mean);
  const double half = kZ * std::sqrt(squares / (n - 1) / n);
  return {mean, mean - half, mean + half};
}

// The differences d whose score statistic (won - lost - n d) / sqrt(n (2 q + d (1 - d))) lies within +-kZ; q is the share lost that is most
// likely given d. The statistic falls with d, so each end is found by bisection.
Interval paired_difference(double lost, double won, double n) {
  CHECK(lost >= 0 && won >= 0 && lost + won <= n, "no more changed than rows");
  if (n == 0) return {0, -1, 1};
  const auto statistic = [&](double d) {
    const double a = 2 * n, b = -won - lost + (2 * n - won + lost) * d, c = -lost * d * (1 - d);
    const double q = (std::sqrt(std::max(0.0, b * b - 4 * a * c)) - b) / (2 * a);
    const double deviation = won - lost - n * d, variance = n * (2 * q + d * (1 - d));
    if (deviation == 0) return 0.0;
    return deviation / std::sqrt(std::max(variance, std::numeric_limits<double>::min()));
  };
  const auto where = [&](double z) {
    double low = -1, high = 1;
    for (int i = 0; i < 60; i++) (statistic((low + high) / 2) > z ? low : high) = (low + high) / 2;
    return (low + high) / 2;
  };
  return {(won - lost) / n, where(kZ), where(-kZ)};
}

Paired paired_test(const std::vector<double>& a, const std::vector<double>& b) {
  CHECK(a.size() == b.size(), "a paired test needs the same rows");
  Paired p;
  if (a.empty()) return p;
  if (!binary(a) || !binary(b)) {
    std::vector<double> differences(a.size());
    for (size_t i = 0; i < a.size(); i++) differences[i] = b[i] - a[i];
    p.difference = bootstrap(differences);
    p.p_value = sign_flip(differences);
    return p;
  }
  for (size_t i = 0; i < a.size(); i++) {
    int64_t& count = a[i] != 0 ? (b[i] != 0 ? p.both : p.only_a) : b[i] != 0 ? p.only_b : p.neither;
    count++;
  }
  p.difference = paired_difference(double(p.only_a), double(p.only_b), double(a.size()));
  p.p_value = mcnemar(p.only_a, p.only_b);
  return p;
}

std::vector<Flip> flipped(const Score& before, const Score& after) {
  std::map<int64_t, const RowScore*> known;
  for (const RowScore& r : before.row_scores) known[r.id] = &r;
  std::vector<Flip> flips;
  for (const RowScore& r : after.row_scores) {
    const auto it = known.find(r.id);
    if (it == known.end() || it->second->right == r.right) continue;
    flips.push_back({r.id, r.expected, it->second->answer, r.answer, r.right});
  }
  return flips;
}

}  // namespace fettle
