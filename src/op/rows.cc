// Operations that treat each row by itself: norm, rotation, activation, residual sum, gathering.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "op/kernels.h"
#include "op/op.h"
#include "op/tasks.h"

namespace fettle {
// ---- rmsnorm: y = x f w with f = 1 / sqrt(mean(x^2) + epsilon), so dx = f (dy w) - x f^3 / n * sum(dy w x).

static void rmsnorm_back(Run& run, Var* x, const float* input, const float* factors, const float* weight, const Var* y) {
  if (!y->grad) return;
  float* dx = run.tape->grad(*x);
  const int n = x->cols;
  by_rows(run.pool, x->rows, n, [&](int first, int last) {
    for (int64_t r = first; r < last; r++) {
      const float* dy = y->grad + r * n;
      const float* in = input + r * n;
      double along = 0;
      for (int i = 0; i < n; i++) along += double(dy[i]) * weight[i] * in[i];
      const float f = factors[r], back = float(along * f * f * f / n);
      for (int i = 0; i < n; i++) dx[r * n + i] += f * dy[i] * weight[i] - back * in[i];
    }
  });
}

Var* rmsnorm(Run& run, Var* x, const float* weight, float epsilon) {
  const int n = x->cols;
  const OpTimer timer(run.times, [&] { return OpWork{"rmsnorm", 4.0 * double(x->count()), 0, 0, 4 * (2.0 * double(x->count()) + n)}; });
  Var* y = run.make(x->rows, n);
  y->needs_grad = run.tape && x->needs_grad;
  float* factors = run.arena.get<float>(size_t(x->rows));
  // x is usually the residual stream, which later layers add to: going back needs it as it is now.
  float* input = y->needs_grad ? run.arena.get<float>(size_t(x->count())) : nullptr;
  by_rows(run.pool, x->rows, n, [&](int first, int last) {
    for (int64_t r = first; r < last; r++) factors[r] = kernels().rmsnorm_row(x->data + r * n, weight, epsilon, n, y->data + r * n);
    if (input) std::memcpy(input + int64_t(first) * n, x->data + int64_t(first) * n, size_t(last - first) * n * 4);
  });
  if (y->needs_grad) run.tape->push([&run, x, y, input, factors, weight] { rmsnorm_back(run, x, input, factors, weight, y); });
  return y;
}

// ---- rope

namespace {

// Cosines and sines per position, (positions, 2, dims / 2), grown by doubling and shared by every layer.
std::shared_ptr<const std::vector<float>> rotation_table(const Rope& rope, int positions) {
  using Key = std::tuple<int, float, uint64_t>;
  static std::mutex mutex;
  static std::map<Key, std::shared_ptr<const std::vector<float>>> tables;
  const int pairs = rope.dims / 2;
  const uint64_t factors = rope.factors ? hash64(std::as_bytes(std::span(rope.factors, size_t(pairs)))) : 0;
  std::lock_guard lock(mutex);
  auto& table = tables[{rope.dims, rope.base, factors}];
  if (table && table->size() >= size_t(positions) * rope.dims) return table;
  int size = 256;
  while (size < positions) size *= 2;
  std::vector<float> made(size_t(size) * rope.dims);
  for (int i = 0; i < pairs; i++) {
    const double frequency = std::pow(double(rope.base), -2.0 * i / rope.dims) / (rope.factors ? rope.factors[i] : 1.0f);
    for (int p = 0; p < size; p++) {
      made[size_t(p) * rope.dims + i] = float(std::cos(p * frequency));
      made[size_t(p) * rope.dims + pairs + i] = float(std::sin(p * frequency));
    }
  }
  return table = std::make_shared<const std::vector<float>>(std::move(made));
}

void rotate_rows(Run& run, float* data, int rows, const Rope& rope, std::span<const int> positions, float direction) {
  if (rows == 0) return;
  auto table = rotation_table(rope, *std::max_element(positions.begin(), positions.end()) + 1);
  const int cols = rope.heads * rope.head_dim, pairs = rope.dims / 2;
  by_rows(run.pool, rows, cols * 2, [&](int first, int last) {
    for (int r = first; r < last; r++) {
      const float* cosines = table->data() + size_t(positions[size_t(r)]) * rope.dims;
      for (int h = 0; h < rope.heads; h++)
        kernels().rotate(data + int64_t(r) * cols + h * rope.head_dim, cosines, cosines + pairs, pairs, rope.interleaved, direction);
    }
  });
}

}  // namespace

void rope(Run& run, Var* x, const Rope& rope, std::span<const int> positions) {
  const OpTimer timer(run.times, [&] {
    const double rotated = double(x->rows) * rope.heads * rope.dims;
    return OpWork{"rope", 3 * rotated, 0, 0, 4 * 2 * rotated};
  });
  rotate_rows(run, x->data, x->rows, rope, positions, 1);
  if (!x->needs_grad) return;
  // A rotation's transpose is the rotation back.
  int* kept = run.arena.get<int>(positions.size());
  std::copy(positions.begin(), positions.end(), kept);
  run.tape->push([&run, x, rope, at = std::span<const int>(kept, positions.size())] {
    if (x->grad) rotate_rows(run, x->grad, x->rows, rope, at, -1);
  });
}

// ---- swiglu, add, gather

Var* swiglu(Run& run, Var* gate, Var* up) {
  const OpTimer timer(run.times, [&] { return OpWork{"swiglu", 4.0 * double(gate->count()), 0, 0, 4 * 3.0 * double(gate->count())}; });
  Var* y = run.make(gate->rows, gate->cols);
  y->needs_grad = gate->needs_grad || up->needs_grad;
  const int n = gate->cols;
  by_rows(run.pool, y->rows, n, [&](int first, int last) {
    const int64_t at = int64_t(first) * n;
    kernels().swiglu(gate->data + at, up->data + at, int64_t(last - first) * n, y->data + at);
  });
  if (!y->needs_grad) return y;
  run.tape->push([&run, gate, up, y, n] {
    if (!y->grad) return;
    float *dgate = run.tape->grad(*gate), *dup = run.tape->grad(*up);
    by_rows(run.pool, y->rows, n, [&](int first, int last) {
      const int64_t at = int64_t(first) * n;
      kernels().swiglu_back(gate->data + at, up->data + at, y->grad + at, int64_t(last - first) * n, dgate + at, dup + at);
    });
  });
  return y;
}

void add(Run& run, Var* stream, Var* x) {
  const OpTimer timer(run.times, [&] { return OpWork{"add", double(x->count()), 0, 0, 4 * 3.0 * double(x->count())}; });
  const int n = stream->cols;
  by_rows(run.pool, stream->rows, n, [&](int first, int last) {
    kernels().add(x->data + int64_t(first) * n, int64_t(last - first) * n, stream->data + int64_t(first) * n);
  });
  if (!x->needs_grad) return;
  stream->needs_grad = true;
  run.tape->push([&run, stream, x, n] {
    if (!stream->grad) return;
    float* dx = run.tape->grad(*x);
    by_rows(run.pool, stream->rows, n, [&](int first, int last) {
      kernels().add(stream->grad + int64_t(first) * n, int64_t(last - first) * n, dx + int64_t(first) * n);
    });
  });
}

Var* gather_rows(Run& run, Var* x, std::span<const int> rows) {
  Var* y = run.make(int(rows.size()), x->cols);
  const OpTimer timer(run.times, [&] { return OpWork{"gather_rows", 0, 0, 0, 4 * 2.0 * double(y->count())}; });
  y->needs_grad = run.tape && x->needs_grad;
  int* kept = run.arena.get<int>(rows.size());
  std::copy(rows.begin(), rows.end(), kept);
  for (int64_t i = 0; i < y->rows; i++) std::memcpy(y->data + i * x->cols, x->data + int64_t(kept[i]) * x->cols, size_t(x->cols) * 4);
  if (y->needs_grad)
    run.tape->push([&run, x, y, kept] {
      if (!y->grad) return;
      float* dx = run.tape->grad(*x);
      for (int64_t i = 0; i < y->rows; i++) kernels().add(y->grad + i * x->cols, x->cols, dx + int64_t(kept[i]) * x->cols);
    });
  return y;
}

}  // namespace fettle
