// f32 and bf16 products. One register tile: R rows by P panels of 16 lanes; each step loads P vectors of b once and multiplies them by R
// broadcast elements of a, so loads stay well below multiplications. Blocking beyond that is the caller's: it hands out ranges of panels to
// threads.
#include "op/kernel/gemm.h"

namespace fettle::FETTLE_KERNELS {
namespace {

// What differs between the element types: one step of the inner product.
struct StepF32 {
  using A = float;
  using Element = float;
  static inline F load(const float* b) { return f_load(b); }
  static inline F step(F acc, F b, float a) { return f_fma(f_set1(a), b, acc); }
};
struct StepHalf {
  using A = float;
  using Element = uint16_t;
  static inline F load(const uint16_t* b) { return f_from_half(b); }
  static inline F step(F acc, F b, float a) { return f_fma(f_set1(a), b, acc); }
};
struct StepBf16 {
  using A = uint32_t;
  using Element = uint32_t;
  static inline B load(const uint32_t* b) { return b_load(b); }
  static inline F step(F acc, B b, uint32_t a) { return dot_bf16(acc, b, a); }
};

template <class Step>
struct Operands {
  const typename Step::A* a;
  int64_t a_row, a_step;
  const typename Step::Element* b;
  int64_t b_panel, b_step;
  float* c;
  int64_t c_row;
  int k;
  float alpha;
  bool accumulate;
};

inline void put(float* c, F x, float alpha, bool accumulate, int lanes) {
  x = f_mul(x, f_set1(alpha));
  if (lanes >= 16) {
    f_store(c, accumulate ? f_add(f_load(c), x) : x);
  } else {
    f_store_n(c, accumulate ? f_add(f_load_n(c, lanes), x) : x, lanes);
  }
}

// lanes: valid ones of the last panel (16: all).
template <class Step, int R, int P>
void tile(const Operands<Step>& o, int lanes) {
  F acc[R][P];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) acc[r][p] = f_zero();
  const auto* b = o.b;
  const auto* a = o.a;
  for (int k = 0; k < o.k; k++, b += o.b_step, a += o.a_step) {
    decltype(Step::load(b)) w[P];
    for (int p = 0; p < P; p++) w[p] = Step::load(b + p * o.b_panel);
    for (int r = 0; r < R; r++) {
      const auto x = a[r * o.a_row];
      for (int p = 0; p < P; p++) acc[r][p] = Step::step(acc[r][p], w[p], x);
    }
  }
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) put(o.c + r * o.c_row + p * 16, acc[r][p], o.alpha, o.accumulate, p == P - 1 ? lanes : 16);
}

template <class Step, int P, int R>
void tile_of(int rows, const Operands<Step>& o, int lanes) {
  if constexpr (R > 1) {
    if (rows < R) return tile_of<Step, P, R - 1>(rows, o, lanes);
  }
  tile<Step, R, P>(o, lanes);
}

template <class Step, int P>
void all_rows(Operands<Step> o, int m, int lanes) {
  for (int r = 0; r < m; r += kRows) {
    int rows = m - r < kRows ? m - r : kRows;
    tile_of<Step, P, kRows>(rows, o, lanes);
    o.a += rows * o.a_row;
    o.c += rows * o.c_row;
  }
}

template <class Step>
void all(Operands<Step> o, int m, int n) {
  const int full = n / 16 * 16;
  int lane = 0;
  auto advance = [&](int panels) {
    o.b += panels * o.b_panel;
    o.c += panels * 16;
    lane += panels * 16;
  };
  if constexpr (kPanels > 1) {
    while (lane + kPanels * 16 <= full) all_rows<Step, kPanels>(o, m, 16), advance(kPanels);
  }
  while (lane < n) all_rows<Step, 1>(o, m, n - lane < 16 ? n - lane : 16), advance(1);
}

}  // namespace

void gemm_f32(const GemmF32& g) {
  all<StepF32>({g.a, g.a_row, g.a_step, g.b, g.b_panel, g.b_step, g.c, g.c_row, g.k, g.alpha, g.accumulate}, g.m, g.n);
}

void gemm_half(const GemmHalf& g) {
  all<StepHalf>({g.a, g.a_row, g.a_step, g.b, g.b_panel, g.b_step, g.c, g.c_row, g.k, g.alpha, g.accumulate}, g.m, g.n);
}

void gemm_bf16(const GemmBf16& g) {
  all<StepBf16>({g.a, g.a_row, 1, g.b, g.b_panel, 16, g.c, g.c_row, g.pairs, 1.0f, g.accumulate}, g.m, g.n);
}

}  // namespace fettle::FETTLE_KERNELS
