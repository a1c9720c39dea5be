// The sampler's draws against the distribution that its settings define, computed plainly.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace fettle {
namespace {

// The distribution that a Sampling asks for, by the definitions alone.
std::vector<double> plain_distribution(std::vector<double> logits, const Sampling& s, const std::vector<int>& tokens, size_t prompt) {
  std::map<int, int> counts;
  for (size_t i = prompt; i < tokens.size(); i++) counts[tokens[i]]++;
  std::set<int> recent;
  for (size_t i = tokens.size() > 64 ? tokens.size() - 64 : 0; i < tokens.size(); i++) recent.insert(tokens[i]);
  for (int id : recent)
    logits[size_t(id)] =
        logits[size_t(id)] > 0 ? logits[size_t(id)] / double(s.repeat_penalty) : logits[size_t(id)] * double(s.repeat_penalty);
  for (auto [id, n] : counts) logits[size_t(id)] -= double(s.presence_penalty) + double(s.frequency_penalty) * n;
  for (auto [id, bias] : s.logit_bias) logits[size_t(id)] += double(bias);
  std::vector<size_t> order(logits.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> p(logits.size());
  const size_t k = s.top_k > 0 ? std::min(size_t(s.top_k), order.size()) : order.size();
  double sum = 0;
  for (size_t i = 0; i < k; i++) sum += p[order[i]] = std::exp((logits[order[i]] - logits[order[0]]) / double(s.temperature));
  double cumulated = 0, kept = 0;
  for (size_t i = 0; i < k; i++) {
    const double share = p[order[i]] / sum;
    const bool keep = i == 0 || (cumulated < double(s.top_p) && p[order[i]] >= double(s.min_p));
    cumulated += share;
    keep ? kept += p[order[i]] : p[order[i]] = 0;
  }
  for (double& x : p) x /= kept;
  return p;
}

TEST(Sampler, DrawsFromTheDistributionThatWasAskedFor) {
  constexpr int n = 40;
  Random random(21);
  std::vector<float> logits;
  std::vector<double> exact;
  for (int i = 0; i < n; i++) logits.push_back(2 * float(random.normal()));
  exact.assign(logits.begin(), logits.end());
  std::vector<int> tokens;
  for (int i = 0; i < 90; i++) tokens.push_back(int(random.below(n)));
  std::vector<Sampling> settings(9);
  for (Sampling& s : settings) s.temperature = 1;
  settings[1].temperature = 0.5f;
  settings[2].top_k = 5;
  settings[3].top_p = 0.7f;
  settings[4].min_p = 0.1f;
  settings[5].repeat_penalty = 1.5f;
  settings[6].presence_penalty = 0.7f;
  settings[6].frequency_penalty = 0.4f;
  settings[7].logit_bias = {{3, 4.0f}, {5, -100.0f}};
  settings[8] = {1.3f, 0.9f, 0.02f, 20, 1.2f, 0.3f, 0.2f, 0, {{1, 1.0f}}};
  for (size_t which = 0; which < settings.size(); which++) {
    const std::vector<double> expected = plain_distribution(exact, settings[which], tokens, 80);
    Sampling s = settings[which];
    s.seed = which + 1;
    Sampler sampler(s);
    constexpr int kDraws = 20000;
    std::vector<int> counts(n);
    for (int i = 0; i < kDraws; i++) counts[size_t(sampler.draw(logits.data(), n, tokens, 80, nullptr).id)]++;
    for (int i = 0; i < n; i++) {
      const double p = expected[size_t(i)], sigma = std::sqrt(p * (1 - p) / kDraws);
      EXPECT_NEAR(double(counts[size_t(i)]) / kDraws, p, 5 * sigma + 1e-9) << "setting " << which << " id " << i;
    }
  }
}

TEST(Sampler, GreedyTakesPenaltiesAndBiasIntoAccount) {
  const std::vector<float> logits{1.0f, 2.0f, 1.9f, -1.0f};
  const std::vector<int> tokens{1, 1};
  const auto pick = [&](const Sampling& s) { return Sampler(s).draw(logits.data(), 4, tokens, 1, nullptr).id; };
  Sampling s;
  EXPECT_EQ(pick(s), 1);
  s.repeat_penalty = 1.1f;
  EXPECT_EQ(pick(s), 2);
  s = {};
  s.presence_penalty = 0.2f;
  EXPECT_EQ(pick(s), 2);
  s = {};
  s.logit_bias = {{3, 10.0f}};
  EXPECT_EQ(pick(s), 3);
  // Log-probabilities stay the raw ones.
  const TokenLogProb drawn = Sampler(s).draw(logits.data(), 4, tokens, 1, nullptr);
  double sum = 0;
  for (float l : logits) sum += std::exp(double(l));
  EXPECT_NEAR(drawn.log_prob, -1.0 - std::log(sum), 1e-5);
  for (float bad : {NAN, INFINITY, -INFINITY})
    for (size_t at : {0u, 1u, 70u, 99u}) {
      std::vector<float> broken(100, 1.0f);
      broken[at] = bad;
      EXPECT_EQ(Sampler(Sampling{}).draw(broken.data(), 100, {}, 0, nullptr).id, -1);
    }
}

TEST(Sampler, ExtremesStayFinite) {
  std::vector<float> logits(50, -3e4f);
  logits[7] = 3e4f;
  logits[9] = 2.9e4f;
  for (float temperature : {1e-6f, 1e-3f, 1.0f, 1e4f}) {
    Sampling s;
    s.temperature = temperature;
    s.top_p = 1e-9f;
    EXPECT_EQ(Sampler(s).draw(logits.data(), 50, {}, 0, nullptr).id, 7);
    s.top_p = 1;
    s.top_k = 1;
    EXPECT_EQ(Sampler(s).draw(logits.data(), 50, {}, 0, nullptr).id, 7);
    s.top_k = 0;
    s.min_p = 1;
    EXPECT_EQ(Sampler(s).draw(logits.data(), 50, {}, 0, nullptr).id, 7);
  }
}

}  // namespace
}  // namespace fettle
