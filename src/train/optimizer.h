// AdamW, gradient clipping and learning-rate schedules. Private to the room.
#pragma once
#include <vector>

#include "train/parameters.h"

namespace fettle {

// Learning rate of step `step` (from 0) of `total`. Warm-up of w steps: lr (step + 1) / w, so that the first step already learns (Hugging
// Face's schedules start at 0 and are one step behind). Then constant, linear down to 0, or a half cosine down to 0.
double learning_rate(const TrainOptions& options, int64_t step, int64_t total);

// Euclidean norm over all gradients, summed in double in a fixed order.
double gradient_norm(const std::vector<Parameter>& parameters, Pool& pool);

// AdamW as PyTorch defines it (Loshchilov & Hutter 2019): decay is decoupled from the gradient, moments and values are f32.
class AdamW {
 public:
  AdamW() = default;
  explicit AdamW(int64_t n) : first(size_t(n)), second(size_t(n)) {}
  // One step with gradients multiplied by `factor` (clipping). `step` counts from 1.
  void update(const std::vector<Parameter>& parameters, const TrainOptions& options, int64_t step, double lr, double factor, Pool& pool);
  std::vector<float> first, second;  // moments of all parameters, one after another
};

}  // namespace fettle
