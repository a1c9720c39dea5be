// Operations that treat each row by itself: norms, rotation, activations, residual sum, gathering.
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

namespace {

// What going back needs of a norm: the inputs as they were (x is usually the residual stream, which later layers add to) and each row's
// factor.
struct Normed {
  const float *input, *factors, *weight;
  int width;  // of a row: heads are rows of their own
};

// dx += of one row.
void rmsnorm_back(const Normed& n, int64_t row, const float* dy, float* dx) {
  const float* in = n.input + row * n.width;
  double along = 0;
  for (int i = 0; i < n.width; i++) along += double(dy[i]) * n.weight[i] * in[i];
  const float f = n.factors[row], back = float(along * f * f * f / n.width);
  for (int i = 0; i < n.width; i++) dx[i] += f * dy[i] * n.weight[i] - back * in[i];
}

}  // namespace

Var* rmsnorm(Run& run, Var* x, const float* weight, float epsilon, int width) {
  const int n = width ? width : x->cols, rows = int(x->count() / n);
  CHECK(x->cols % n == 0, "rows are cut evenly");
  const OpTimer timer(run.times, [&] { return OpWork{"rmsnorm", 4.0 * double(x->count()), 0, 0, 4 * (2.0 * double(x->count()) + n)}; });
  Var* y = run.make(x->rows, x->cols);
  y->needs_grad = run.tape && x->needs_grad;
  float* factors = run.arena.get<float>(size_t(rows));
  float* input = y->needs_grad ? run.arena.get<float>(size_t(x->count())) : nullptr;
  by_rows(run.pool, rows, n, [&](int first, int last) {
    for (int64_t r = first; r < last; r++) factors[r] = kernels().rmsnorm_row(x->data + r * n, weight, epsilon, n, y->data + r * n);
    if (input) std::memcpy(input + int64_t(first) * n, x->data + int64_t(first) * n, size_t(last - first) * n * 4);
  });
  if (!y->needs_grad) return y;
  run.tape->push([&run, x, y, rows, kept = Normed{input, factors, weight, n}] {
    if (!y->grad) return;
    float* dx = run.tape->grad(*x);
    by_rows(run.pool, rows, kept.width, [&](int first, int last) {
      for (int64_t r = first; r < last; r++) rmsnorm_back(kept, r, y->grad + r * kept.width, dx + r * kept.width);
    });
  });
  return y;
}

// ---- layernorm: the mean is taken off, the rest is an rmsnorm. So is the way back: dx is what flows into the centred row, less its mean.

namespace {

void centre(const float* x, int n, float* out) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += x[i];
  const float mean = float(sum / n);
  for (int i = 0; i < n; i++) out[i] = x[i] - mean;
}

}  // namespace

Var* layernorm(Run& run, Var* x, const float* weight, const float* bias, float epsilon) {
  const int n = x->cols;
  const OpTimer timer(run.times, [&] {
    return OpWork{"layernorm", 7.0 * double(x->count()), 0, 0, 4 * (2.0 * double(x->count()) + 2 * n)};
  });
  Var* y = run.make(x->rows, n);
  y->needs_grad = run.tape && x->needs_grad;
  float *factors = run.arena.get<float>(size_t(x->rows)), *centred = run.arena.get<float>(size_t(x->count()));
  by_rows(run.pool, x->rows, n, [&](int first, int last) {
    for (int64_t r = first; r < last; r++) {
      centre(x->data + r * n, n, centred + r * n);
      factors[r] = kernels().rmsnorm_row(centred + r * n, weight, epsilon, n, y->data + r * n);
      kernels().add(bias, n, y->data + r * n);
    }
  });
  if (!y->needs_grad) return y;
  run.tape->push([&run, x, y, kept = Normed{centred, factors, weight, n}] {
    if (!y->grad) return;
    float* dx = run.tape->grad(*x);
    by_rows(run.pool, x->rows, kept.width, [&](int first, int last) {
      std::vector<float> back(static_cast<size_t>(kept.width));
      for (int64_t r = first; r < last; r++) {
        std::fill(back.begin(), back.end(), 0.0f);
        rmsnorm_back(kept, r, y->grad + r * kept.width, back.data());
        centre(back.data(), kept.width, back.data());
        kernels().add(back.data(), kept.width, dx + r * kept.width);
      }
    });
  });
  return y;
}

// ---- rope

namespace {

// Cosines and sines per position, (positions, 2, dims / 2), grown by doubling and shared by every layer.
std::shared_ptr<const std::vector<float>> rotation_table(const Rope& rope, int positions) {
  using Key = std::tuple<int, float, uint64_t, float>;
  static std::mutex mutex;
  static std::map<Key, std::shared_ptr<const std::vector<float>>> tables;
  const int pairs = rope.dims / 2;
  const uint64_t factors = rope.factors ? hash64(std::as_bytes(std::span(rope.factors, size_t(pairs)))) : 0;
  std::lock_guard lock(mutex);
  auto& table = tables[{rope.dims, rope.base, factors, rope.magnitude}];
  if (table && table->size() >= size_t(positions) * rope.dims) return table;
  int size = 256;
  while (size < positions) size *= 2;
  std::vector<float> made(size_t(size) * rope.dims);
  for (int i = 0; i < pairs; i++) {
    const double frequency = std::pow(double(rope.base), -2.0 * i / rope.dims) / (rope.factors ? rope.factors[i] : 1.0f);
    for (int p = 0; p < size; p++) {
      made[size_t(p) * rope.dims + i] = float(std::cos(p * frequency) * rope.magnitude);
      made[size_t(p) * rope.dims + pairs + i] = float(std::sin(p * frequency) * rope.magnitude);
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
  // A rotation's transpose is the rotation back, as much longer.
  int* kept = run.arena.get<int>(positions.size());
  std::copy(positions.begin(), positions.end(), kept);
  run.tape->push([&run, x, rope, at = std::span<const int>(kept, positions.size())] {
    if (x->grad) rotate_rows(run, x->grad, x->rows, rope, at, -1);
  });
}

// ---- swiglu and geglu, add, scale, parts of rows

namespace {

using Gate = void (*)(const float* gate, const float* up, int64_t n, float* out);
using GateBack = void (*)(const float* gate, const float* up, const float* dout, int64_t n, float* dgate, float* dup);

Var* gated(Run& run, Var* gate, Var* up, const char* name, Gate forward, GateBack back) {
  const OpTimer timer(run.times, [&] { return OpWork{name, 4.0 * double(gate->count()), 0, 0, 4 * 3.0 * double(gate->count())}; });
  Var* y = run.make(gate->rows, gate->cols);
  y->needs_grad = gate->needs_grad || up->needs_grad;
  const int n = gate->cols;
  by_rows(run.pool, y->rows, n, [&](int first, int last) {
    const int64_t at = int64_t(first) * n;
    forward(gate->data + at, up->data + at, int64_t(last - first) * n, y->data + at);
  });
  if (!y->needs_grad) return y;
  run.tape->push([&run, gate, up, y, n, back] {
    if (!y->grad) return;
    float *dgate = run.tape->grad(*gate), *dup = run.tape->grad(*up);
    by_rows(run.pool, y->rows, n, [&](int first, int last) {
      const int64_t at = int64_t(first) * n;
      back(gate->data + at, up->data + at, y->grad + at, int64_t(last - first) * n, dgate + at, dup + at);
    });
  });
  return y;
}

// y += factor * x, both (rows, cols)
void add_rows(Pool& pool, const float* x, int rows, int cols, float factor, float* y) {
  by_rows(pool, rows, cols, [&](int first, int last) {
    const int64_t at = int64_t(first) * cols, n = int64_t(last - first) * cols;
    factor == 1 ? kernels().add(x + at, n, y + at) : kernels().axpy(factor, x + at, n, y + at);
  });
}

void scale_rows(Pool& pool, float factor, int rows, int cols, float* x) {
  by_rows(pool, rows, cols, [&](int first, int last) { kernels().scale(factor, int64_t(last - first) * cols, x + int64_t(first) * cols); });
}

}  // namespace

Var* swiglu(Run& run, Var* gate, Var* up) { return gated(run, gate, up, "swiglu", kernels().swiglu, kernels().swiglu_back); }
Var* geglu(Run& run, Var* gate, Var* up) { return gated(run, gate, up, "geglu", kernels().geglu, kernels().geglu_back); }

Var* gelu(Run& run, Var* x) {
  const OpTimer timer(run.times, [&] { return OpWork{"gelu", 4.0 * double(x->count()), 0, 0, 4 * 2.0 * double(x->count())}; });
  Var* y = run.make(x->rows, x->cols);
  y->needs_grad = run.tape && x->needs_grad;
  const int n = x->cols;
  by_rows(run.pool, y->rows, n, [&](int first, int last) {
    kernels().gelu(x->data + int64_t(first) * n, int64_t(last - first) * n, y->data + int64_t(first) * n);
  });
  if (!y->needs_grad) return y;
  run.tape->push([&run, x, y, n] {
    if (!y->grad) return;
    float* dx = run.tape->grad(*x);
    by_rows(run.pool, y->rows, n, [&](int first, int last) {
      const int64_t at = int64_t(first) * n;
      kernels().gelu_back(x->data + at, y->grad + at, int64_t(last - first) * n, dx + at);
    });
  });
  return y;
}

void add(Run& run, Var* stream, Var* x, float factor) {
  const OpTimer timer(run.times, [&] { return OpWork{"add", double(x->count()), 0, 0, 4 * 3.0 * double(x->count())}; });
  add_rows(run.pool, x->data, x->rows, x->cols, factor, stream->data);
  if (!x->needs_grad) return;
  stream->needs_grad = true;
  run.tape->push([&run, stream, x, factor] {
    if (stream->grad) add_rows(run.pool, stream->grad, x->rows, x->cols, factor, run.tape->grad(*x));
  });
}

void scale(Run& run, Var* x, float factor) {
  const OpTimer timer(run.times, [&] { return OpWork{"scale", double(x->count()), 0, 0, 4 * 2.0 * double(x->count())}; });
  scale_rows(run.pool, factor, x->rows, x->cols, x->data);
  if (!x->needs_grad) return;
  run.tape->push([&run, x, factor] {
    if (x->grad) scale_rows(run.pool, factor, x->rows, x->cols, x->grad);
  });
}

Var* columns(Run& run, Var* x, int first, int count) {
  CHECK(first >= 0 && first + count <= x->cols, "columns of x");
  Var* y = run.make(x->rows, count);
  const OpTimer timer(run.times, [&] { return OpWork{"columns", 0, 0, 0, 4 * 2.0 * double(y->count())}; });
  y->needs_grad = x->needs_grad;
  by_rows(run.pool, y->rows, count, [&](int begin, int end) {
    for (int64_t r = begin; r < end; r++) std::memcpy(y->data + r * count, x->data + r * x->cols + first, size_t(count) * 4);
  });
  if (!y->needs_grad) return y;
  run.tape->push([&run, x, y, first] {
    if (!y->grad) return;
    float* dx = run.tape->grad(*x);
    by_rows(run.pool, y->rows, y->cols, [&](int begin, int end) {
      for (int64_t r = begin; r < end; r++) kernels().add(y->grad + r * y->cols, y->cols, dx + r * x->cols + first);
    });
  });
  return y;
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
