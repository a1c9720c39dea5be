#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace fettle {
namespace {

constexpr size_t kRepeatWindow = 64;  // tokens that repeat_penalty looks back on

// Vector maxima and exponentials may pass over a NaN, so the bits are looked at: adding one to an exponent of all ones carries into the
// sign.
bool all_finite(const float* x, int n) {
  const auto suspect = [](float v) { return (std::bit_cast<uint32_t>(v) & 0x7fffffffu) + 0x00800000u; };
  uint32_t carried = 0;
  int i = 0;
  for (; i + 64 <= n; i += 64) {
    for (int j = 0; j < 64; j++) carried |= suspect(x[i + j]);
  }
  for (; i < n; i++) carried |= suspect(x[i]);
  return !(carried & 0x80000000u);
}

}  // namespace

TokenLogProb Sampler::draw(const float* logits, int vocabulary, std::span<const int> tokens, size_t prompt_tokens,
                           const std::vector<int>* allowed) {
  log_normalizer_ = log_sum_exp(logits, vocabulary);
  if (!all_finite(logits, vocabulary) || !std::isfinite(log_normalizer_)) return {};
  int id;
  if (allowed && allowed->size() == 1) {
    id = allowed->front();
  } else {
    const float* row = adjusted(logits, vocabulary, tokens, prompt_tokens);
    id = allowed ? pick_allowed(row, *allowed) : sampling_.temperature <= 0 ? argmax(row, vocabulary) : pick(row, vocabulary);
  }
  return {id, float(double(logits[id]) - log_normalizer_)};
}

// The row with penalties and bias: the row itself where nothing is asked.
const float* Sampler::adjusted(const float* logits, int vocabulary, std::span<const int> tokens, size_t prompt_tokens) {
  const Sampling& s = sampling_;
  const bool repeat = s.repeat_penalty != 1, count = s.presence_penalty != 0 || s.frequency_penalty != 0;
  if (!repeat && !count && s.logit_bias.empty()) return logits;
  copy_.assign(logits, logits + vocabulary);
  if (repeat) {
    const size_t first = tokens.size() - std::min(tokens.size(), kRepeatWindow);
    for (size_t i = first; i < tokens.size(); i++) {
      const size_t id = size_t(tokens[i]);
      if (std::find(tokens.begin() + long(first), tokens.begin() + long(i), tokens[i]) != tokens.begin() + long(i)) continue;  // once each
      copy_[id] = copy_[id] > 0 ? copy_[id] / s.repeat_penalty : copy_[id] * s.repeat_penalty;
    }
  }
  if (count) {
    std::span<const int> answer = tokens.subspan(prompt_tokens);
    for (; counted_ < answer.size(); counted_++) counts_[answer[counted_]]++;
    for (auto [id, n] : counts_) copy_[size_t(id)] -= s.presence_penalty + s.frequency_penalty * float(n);
  }
  for (auto [id, bias] : s.logit_bias) copy_[size_t(id)] += bias;
  return copy_.data();
}

int Sampler::pick(const float* logits, int vocabulary) {
  const float scale = 1 / sampling_.temperature;
  if (logits != copy_.data()) copy_.resize(size_t(vocabulary));
  const float largest = logits[argmax(logits, vocabulary)];
  // Relative to the largest, so that a tiny temperature cannot overflow.
  for (int i = 0; i < vocabulary; i++) copy_[size_t(i)] = (logits[i] - largest) * scale;
  const double log_sum = log_sum_exp(copy_.data(), vocabulary);
  candidates_.clear();
  if (sampling_.top_k <= 0 && sampling_.top_p >= 1 && sampling_.min_p <= 0) return pick_all(vocabulary, log_sum);
  return pick_filtered(vocabulary, log_sum);
}

// The whole distribution without 50,000 exponentials: nearly all mass lies on the few tokens above `floor`; the rest is walked only when
// the draw falls there.
int Sampler::pick_all(int vocabulary, double log_sum) {
  const float floor = float(log_sum - 11.5);  // probability 1e-5
  double u = random_.uniform();
  int last = 0;
  for (bool likely : {true, false}) {
    for (int i = 0; i < vocabulary; i++) {
      if ((copy_[size_t(i)] > floor) != likely) continue;
      u -= std::exp(double(copy_[size_t(i)]) - log_sum);
      last = i;
      if (u < 0) return i;
    }
  }
  return last;  // rounding left a crumb
}

void Sampler::keep_top_k(int vocabulary) {
  const auto worse = [](const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); };
  const size_t k = size_t(sampling_.top_k);
  for (int i = 0; i < vocabulary; i++) {
    const Candidate c{copy_[size_t(i)], i};
    if (candidates_.size() == k) {
      if (!worse(c, candidates_.front())) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), worse);
      candidates_.back() = c;
    } else {
      candidates_.push_back(c);
    }
    std::push_heap(candidates_.begin(), candidates_.end(), worse);
  }
}

// Logits in copy_ are relative to the largest, which is 0 there.
int Sampler::pick_filtered(int vocabulary, double log_sum) {
  const Sampling& s = sampling_;
  // min-p is relative to the most likely token.
  const double min_p_floor = s.min_p > 0 ? std::log(double(s.min_p)) : -INFINITY;
  if (s.top_k > 0) {
    keep_top_k(vocabulary);
  } else {
    // Tokens below (1 - top_p) / vocabulary together hold less than 1 - top_p: the nucleus needs none of them.
    const double nucleus_floor = s.top_p < 1 ? log_sum + std::log((1.0 - double(s.top_p)) / vocabulary) : -INFINITY;
    const float floor = std::min(float(std::max(min_p_floor, nucleus_floor)), 0.0f);
    for (int i = 0; i < vocabulary; i++) {
      if (copy_[size_t(i)] >= floor) candidates_.push_back({copy_[size_t(i)], i});
    }
  }
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); });
  double total = s.top_k > 0 ? 0 : std::exp(log_sum), sum = 0;
  if (s.top_k > 0) {
    for (const Candidate& c : candidates_) total += std::exp(double(c.logit));
  }
  size_t n = 0;
  while (n < candidates_.size()) {
    if (n > 0 && (double(candidates_[n].logit) < min_p_floor || (s.top_p < 1 && sum >= double(s.top_p) * total))) break;
    sum += std::exp(double(candidates_[n++].logit));
  }
  double u = random_.uniform() * sum;
  for (size_t i = 0; i < n; i++) {
    u -= std::exp(double(candidates_[i].logit));
    if (u < 0) return candidates_[i].id;
  }
  return candidates_[n - 1].id;
}

int Sampler::pick_allowed(const float* logits, const std::vector<int>& allowed) {
  int best = allowed.front();
  for (int id : allowed) {
    if (logits[id] > logits[best]) best = id;
  }
  if (sampling_.temperature <= 0) return best;
  const auto weight = [&](int id) { return std::exp(double(logits[id] - logits[best]) / double(sampling_.temperature)); };
  double sum = 0;
  for (int id : allowed) sum += weight(id);
  double u = random_.uniform() * sum;
  for (int id : allowed) {
    u -= weight(id);
    if (u < 0) return id;
  }
  return best;
}

void top_log_probs(const float* logits, int vocabulary, double log_normalizer, int n, std::vector<TokenLogProb>& out) {
  const auto better = [](const TokenLogProb& a, const TokenLogProb& b) {
    return a.log_prob > b.log_prob || (a.log_prob == b.log_prob && a.id < b.id);
  };
  out.clear();
  if (n <= 0) return;
  for (int i = 0; i < vocabulary; i++) {
    if (int(out.size()) == n) {
      if (logits[i] <= out.back().log_prob) continue;
      out.pop_back();
    }
    const TokenLogProb t{i, logits[i]};
    out.insert(std::upper_bound(out.begin(), out.end(), t, better), t);
  }
  for (TokenLogProb& t : out) t.log_prob = float(double(t.log_prob) - log_normalizer);
}

}  // namespace fettle
