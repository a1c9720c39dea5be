// Mean cross-entropy without all logits: the head is applied to a few dozen rows at a time, and their gradient flows back at once, so that
// memory is rows x vocabulary of one chunk. With p = softmax(logits): loss = log-sum-exp - logit[target], d(logits) = p - onehot(target).
#include <algorithm>
#include <cmath>
#include <vector>

#include "op/kernels.h"
#include "op/op.h"
#include "op/panels.h"

namespace fettle {
namespace {

constexpr int kChunk = 64;  // rows of logits held at a time

// logits become factor * d(loss); returns the loss.
float differentiate(float* logits, int n, int target, float factor, bool gradient) {
  const float top = kernels().maximum(logits, n), right = logits[target];
  if (!gradient) return log_sum_exp(logits, n) - right;
  const float sum = kernels().exp_sum(logits, top, n);
  kernels().scale(factor / sum, n, logits);
  logits[target] -= factor;
  return top + std::log(sum) - right;
}

}  // namespace

double cross_entropy(Run& run, Var* hidden, const Linear& head, std::span<const int> targets, double grad_scale, float* row_losses) {
  CHECK(int(targets.size()) == hidden->rows, "one target per row");
  const bool gradient = run.tape && hidden->needs_grad;
  const Precision precision = run.precision;
  Arena::Mark mark = run.arena.mark();
  std::vector<float> losses(targets.size());
  Tape* tape = run.tape;
  run.tape = nullptr;  // the chunk's products are undone by hand below
  Var part;
  part.cols = hidden->cols;
  for (int first = 0; first < hidden->rows; first += kChunk) {
    Arena::Mark chunk = run.arena.mark();
    part.rows = std::min(kChunk, hidden->rows - first);
    part.data = hidden->data + int64_t(first) * hidden->cols;
    Var* logits = linear(run, &part, head);
    run.pool.run(part.rows, [&](int i) {
      losses[size_t(first + i)] =
          differentiate(logits->data + int64_t(i) * head.out, head.out, targets[size_t(first + i)], float(grad_scale), gradient);
    });
    if (gradient) {
      const Panels& back = head.panels(precision == Precision::exact ? Linear::backward_f32 : Linear::backward_bf16, run.pool);
      multiply(run, logits->data, part.rows, back, tape->grad(*hidden) + int64_t(first) * hidden->cols, true);
    }
    run.arena.release(chunk);
  }
  run.tape = tape;
  run.arena.release(mark);
  double sum = 0;
  for (float l : losses) sum += l;
  if (row_losses) std::copy(losses.begin(), losses.end(), row_losses);
  return sum;
}

double log_sum_exp(const float* logits, int n) noexcept {
  const float top = kernels().maximum(logits, n);
  double sum = 0;
  float part[256];
  for (int i = 0; i < n; i += 256) {
    const int width = std::min(256, n - i);
    std::copy(logits + i, logits + i + width, part);
    sum += kernels().exp_sum(part, top, width);
  }
  return top + std::log(sum);
}

int argmax(const float* logits, int n) noexcept { return int(std::max_element(logits, logits + n) - logits); }

}  // namespace fettle
