// Chooses the next token of one sequence from its logits. Order: penalties and bias, temperature, top-k, top-p, min-p (temperature first,
// as OpenAI-compatible servers do; llama.cpp's own order puts it last). Log-probabilities are those of the model's raw distribution, before
// all of this.
#pragma once
#include <span>
#include <vector>

#include "engine/engine.h"

namespace fettle {

class Sampler {
 public:
  explicit Sampler(Sampling sampling) : sampling_(std::move(sampling)), random_(sampling_.seed) {}
  // logits: (vocabulary), not changed. tokens: prompt and answer so far, the answer from `prompt_tokens` on. allowed: the only ids that may
  // come, nullptr: all. Returns the id and its raw log-probability; id -1 when the logits are not finite.
  TokenLogProb draw(const float* logits, int vocabulary, std::span<const int> tokens, size_t prompt_tokens,
                    const std::vector<int>* allowed);
  // log of the sum of exp(logits) that the last draw() worked out.
  double log_normalizer() const { return log_normalizer_; }

 private:
  struct Candidate {
    float logit;
    int id;
  };
  const float* adjusted(const float* logits, int vocabulary, std::span<const int> tokens, size_t prompt_tokens);
  int pick(const float* logits, int vocabulary);
  int pick_all(int vocabulary, double log_sum);
  int pick_filtered(int vocabulary, double log_sum);
  int pick_allowed(const float* logits, const std::vector<int>& allowed);
  void keep_top_k(int vocabulary);
  Sampling sampling_;
  Random random_;
  double log_normalizer_ = 0;
  std::map<int, int> counts_;  // of the answer's first `counted_` tokens
  size_t counted_ = 0;
  std::vector<float> copy_;  // (vocabulary); made only when logits must be changed
  std::vector<Candidate> candidates_;
};

// The n most likely ids under raw logits, most likely first, into `out`.
void top_log_probs(const float* logits, int vocabulary, double log_normalizer, int n, std::vector<TokenLogProb>& out);

}  // namespace fettle
