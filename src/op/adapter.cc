#include "op/adapter.h"

#include "op/kernels.h"
#include "op/panels.h"

namespace fettle {
namespace {

// ---- f32

// t = x A^T (rows, rank)
void down(Run& run, const Var* x, const Adapter& a, float* t) {
  if (x->rows <= 4) {
    for (int r = 0; r < x->rows; r++)
      for (int i = 0; i < a.rank; i++)
        t[r * a.rank + i] = kernels().dot(x->data + int64_t(r) * x->cols, a.a.data() + int64_t(i) * x->cols, x->cols);
    return;
  }
  Rows at = transposed(run, a.a.data(), a.rank, x->cols);
  multiply_f32(run.pool, {x->data, x->cols, 1, at.data, 16, at.stride, t, a.rank, x->rows, a.rank, x->cols, 1.0f, false});
}

// y += scale * t B^T
void up(Run& run, const float* t, const Adapter& a, Var* y) {
  if (y->rows <= 4) {
    for (int r = 0; r < y->rows; r++)
      for (int o = 0; o < y->cols; o++)
        y->data[int64_t(r) * y->cols + o] += a.scale * kernels().dot(t + r * a.rank, a.b.data() + int64_t(o) * a.rank, a.rank);
    return;
  }
  Rows bt = transposed(run, a.b.data(), y->cols, a.rank);
  multiply_f32(run.pool, {t, a.rank, 1, bt.data, 16, bt.stride, y->data, y->cols, y->rows, y->cols, a.rank, a.scale, true});
}

// Given dy: dA, dB and what flows into x.
void back(Run& run, Var* x, bool into_x, const float* t, Adapter& a, const Var* y) {
  const int rows = x->rows;
  const float* dy = y->grad;
  float* dt = run.arena.get<float>(size_t(rows) * a.rank + 16);
  Rows b = readable(run, a.b.data(), y->cols, a.rank);
  multiply_f32(run.pool, {dy, y->cols, 1, b.data, 16, b.stride, dt, a.rank, rows, a.rank, y->cols, a.scale, false});
  if (!a.db.empty()) {
    Rows wide = readable(run, t, rows, a.rank);
    multiply_f32(run.pool, {dy, 1, y->cols, wide.data, 16, wide.stride, a.db.data(), a.rank, y->cols, a.rank, rows, a.scale, true});
    Rows in = readable(run, x->data, rows, x->cols);
    multiply_f32(run.pool, {dt, 1, a.rank, in.data, 16, in.stride, a.da.data(), x->cols, a.rank, x->cols, rows, 1.0f, true});
  }
  if (into_x) {
    Rows in = readable(run, a.a.data(), a.rank, x->cols);
    multiply_f32(run.pool, {dt, a.rank, 1, in.data, 16, in.stride, run.tape->grad(*x), x->cols, rows, x->cols, a.rank, 1.0f, true});
  }
}

// ---- bf16 pairs

// c (m, n) (+)= a^T b: a (rows, m) is small and transposed, b (rows, n) is paired as it lies.
void multiply_transposed(Run& run, const float* a, int m, const float* b, int n, int rows, float* c, bool accumulate) {
  const Rows at = transposed(run, a, rows, m);
  multiply_pairs(run, bf16_rows(run, at.data, m, int(at.stride)), pair_panels(run, b, rows, n), c, accumulate);
}

// c (n, m) += factor * b^T a, the other way round: of a and b, a is still the one that is transposed.
void add_swapped(Run& run, const float* a, int m, const float* b, int n, int rows, float factor, float* c) {
  float* product = run.arena.get<float>(size_t(m) * size_t(n) + 16);
  multiply_transposed(run, a, m, b, n, rows, product, false);
  run.pool.run((n + 63) / 64, [&](int i) {
    for (int64_t j = i * 64; j < std::min(n, i * 64 + 64); j++)
      for (int l = 0; l < m; l++) c[j * m + l] += factor * product[int64_t(l) * n + j];
  });
}

void forward_pairs(Run& run, const PairRows& x, int in, const Adapter& a, float* t, Var* y) {
  multiply_pairs(run, x, pair_panels_of_transposed(run, a.a.data(), a.rank, in), t, false);
  multiply_pairs(run, bf16_rows(run, t, x.rows, a.rank), pair_panels_of_transposed(run, a.b.data(), y->cols, a.rank, a.scale), y->data,
                 true);
}

void back_pairs(Run& run, Var* x, bool into_x, const float* t, Adapter& a, const Var* y, const PairRows& dy) {
  const int rows = x->rows;
  float* dt = run.arena.get<float>(size_t(rows) * a.rank + 16);
  multiply_pairs(run, dy, pair_panels(run, a.b.data(), y->cols, a.rank), dt, false);
  kernels().scale(a.scale, int64_t(rows) * a.rank, dt);
  if (!a.db.empty()) {
    add_swapped(run, t, a.rank, y->grad, y->cols, rows, a.scale, a.db.data());
    multiply_transposed(run, dt, a.rank, x->data, x->cols, rows, a.da.data(), true);
  }
  if (into_x)
    multiply_pairs(run, bf16_rows(run, dt, rows, a.rank), pair_panels(run, a.a.data(), a.rank, x->cols), run.tape->grad(*x), true);
}

}  // namespace

void adapter_forward(Run& run, const Var* x, const PairRows& pairs, const Adapter& adapter, float* t, Var* y) {
  const Arena::Mark mark = run.arena.mark();
  if (pairs) {
    forward_pairs(run, pairs, x->cols, adapter, t, y);
  } else {
    down(run, x, adapter, t);
    up(run, t, adapter, y);
  }
  run.arena.release(mark);
}

void adapter_back(Run& run, Var* x, bool into_x, const float* t, Adapter& adapter, const Var* y, const PairRows& pairs) {
  const Arena::Mark mark = run.arena.mark();
  pairs ? back_pairs(run, x, into_x, t, adapter, y, pairs) : back(run, x, into_x, t, adapter, y);
  run.arena.release(mark);
}

}  // namespace fettle
