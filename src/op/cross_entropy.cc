// Losses without all logits: the head is applied to a few dozen rows at a time, and their gradient flows back at once, so that
// memory is rows x vocabulary of one chunk. With p = softmax(logits): loss = log-sum-exp - logit[target], d(logits) = p - onehot(target);
// with a teacher's distribution in place of the target, the same.
#include <algorithm>
#include <cmath>
#include <vector>

#include "op/kernels.h"
#include "op/op.h"
#include "op/panels.h"

namespace fettle {
namespace {

constexpr int kChunk = 64;  // rows of logits held at a time

Var* linear_of_rows(Run& run, const Var& x, int first, int rows, const Linear& one) {
  Var part;
  part.rows = rows;
  part.cols = x.cols;
  part.data = x.data + int64_t(first) * x.cols;
  return linear(run, &part, one);
}

// logits become factor * d(loss); returns the loss.
float differentiate(float* logits, int n, int target, float factor, bool gradient) {
  const float top = kernels().maximum(logits, n), right = logits[target];
  if (!gradient) return log_sum_exp(logits, n) - right;
  const float sum = kernels().exp_sum(logits, top, n);
  kernels().scale(factor / sum, n, logits);
  logits[target] -= factor;
  return top + std::log(sum) - right;
}

// With p = softmax(teacher), q = softmax(logits): logits become factor * (q - p); returns sum p (log p - log q). `teacher` is overwritten.
float approach(float* logits, float* teacher, int n, float factor, bool gradient) {
  thread_local std::vector<float> apart;
  apart.resize(size_t(n));
  for (int i = 0; i < n; i++) apart[size_t(i)] = teacher[i] - logits[i];
  const float top = kernels().maximum(logits, n), teacher_top = kernels().maximum(teacher, n);
  const float teacher_sum = kernels().exp_sum(teacher, teacher_top, n), sum = kernels().exp_sum(logits, top, n);
  const float loss = kernels().dot(teacher, apart.data(), n) / teacher_sum + (top + std::log(sum)) - (teacher_top + std::log(teacher_sum));
  if (gradient) {
    kernels().scale(factor / sum, n, logits);
    kernels().axpy(-factor / teacher_sum, teacher, n, logits);
  }
  return loss;
}

// Logits of `kChunk` rows at a time: each(first row, logits) turns them into their gradient, which flows into hidden's at once.
template <class F>
void by_chunks(Run& run, Var* hidden, const Linear& head, const F& each) {
  const bool gradient = run.tape && hidden->needs_grad;
  const Precision precision = run.precision;
  Arena::Mark mark = run.arena.mark();
  Tape* tape = run.tape;
  run.tape = nullptr;  // the chunk's products are undone by hand below
  for (int first = 0; first < hidden->rows; first += kChunk) {
    Arena::Mark chunk = run.arena.mark();
    Var* logits = linear_of_rows(run, *hidden, first, std::min(kChunk, hidden->rows - first), head);
    std::vector<float> capped;
    if (gradient && head.soft_cap > 0) capped.assign(logits->data, logits->data + logits->count());
    each(first, logits, gradient);
    if (gradient) {
      if (!capped.empty()) kernels().soft_cap_back(head.soft_cap, capped.data(), logits->count(), logits->data);
      const Panels& back = head.panels(precision == Precision::exact ? Linear::backward_f32 : Linear::backward_bf16, run.pool);
      multiply(run, logits->data, logits->rows, back, tape->grad(*hidden) + int64_t(first) * hidden->cols, true);
    }
    run.arena.release(chunk);
  }
  run.tape = tape;
  run.arena.release(mark);
}

}  // namespace

double cross_entropy(Run& run, Var* hidden, const Linear& head, std::span<const int> targets, double grad_scale, float* row_losses) {
  CHECK(int(targets.size()) == hidden->rows, "one target per row");
  std::vector<float> losses(targets.size());
  by_chunks(run, hidden, head, [&](int first, Var* logits, bool gradient) {
    run.pool.run(logits->rows, [&](int i) {
      losses[size_t(first + i)] =
          differentiate(logits->data + int64_t(i) * head.out, head.out, targets[size_t(first + i)], float(grad_scale), gradient);
    });
  });
  double sum = 0;
  for (float l : losses) sum += l;
  if (row_losses) std::copy(losses.begin(), losses.end(), row_losses);
  return sum;
}

double distillation(Run& run, Var* hidden, const Linear& head, const Var& teacher, const Linear& teacher_head, double grad_scale) {
  CHECK(teacher.rows == hidden->rows && teacher_head.out == head.out, "a teacher says as much about the same rows");
  std::vector<float> losses(size_t(hidden->rows));
  by_chunks(run, hidden, head, [&](int first, Var* logits, bool gradient) {
    const Var* wanted = linear_of_rows(run, teacher, first, logits->rows, teacher_head);
    run.pool.run(logits->rows, [&](int i) {
      const int64_t at = int64_t(i) * head.out;
      losses[size_t(first + i)] = approach(logits->data + at, wanted->data + at, head.out, float(grad_scale), gradient);
    });
  });
  double sum = 0;
  for (float l : losses) sum += l;
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
