// Products of f32, f16, bf16 and bytes, all summed in f32. One register tile: R rows by P panels of 16 lanes; each step loads P vectors of
// b once and multiplies them by R broadcast elements of a, so loads stay well below multiplications. Blocking beyond that is the caller's:
// it hands out ranges of panels to threads.
#include "op/kernel/gemm.h"

namespace fettle::FETTLE_KERNELS {
namespace {

// What differs between the element types: one step of the inner product, in one or two parts.
inline F widen(const float* b) { return f_load(b); }
inline F widen(const uint16_t* b) { return f_from_half(b); }
inline F widen(const int8_t* b) { return f_from_i8(b); }
template <class E>
struct StepFloat {
  using A = float;
  using Element = E;
  static constexpr int kRowsAtOnce = kRows, kParts = 1;
  template <int>
  static inline F load(const E* b) {
    return widen(b);
  }
  template <int>
  static inline F step(F acc, F b, float a) {
    return f_fma1(a, b, acc);
  }
};
struct StepBf16 {
  using A = Pair;
  using Element = uint32_t;
  static constexpr int kRowsAtOnce = kPairRows, kParts = kBf16Parts;
  template <int Part>
  static inline auto load(const uint32_t* b) {
    return bf16_load<Part>(b);
  }
  template <int Part, class W>
  static inline F step(F acc, W b, const Pair& a) {
    return bf16_step<Part>(acc, b, a);
  }
};

template <class Step>
struct Operands {
  const typename Step::A* a;
  int64_t a_row, a_step;
  const typename Step::Element* b;
  int64_t b_panel, b_step;
  const float* from;  // what is added, or nullptr
  int64_t from_row;
  float* c;
  int64_t c_row;
  int k;
  float alpha;
};

inline void put(const float* from, float* c, F x, float alpha, int lanes) {
  x = f_mul(x, f_set1(alpha));
  if (lanes >= 16) {
    f_store(c, from ? f_add(f_load(from), x) : x);
  } else {
    f_store_n(c, from ? f_add(f_load_n(from, lanes), x) : x, lanes);
  }
}

// lanes: valid ones of the last panel (16: all).
template <class Step, int R, int P>
[[gnu::noinline]] void tile(const Operands<Step>& o, int lanes) {
  F acc[R][P];
  unroll<0, R>([&](auto r) { unroll<0, P>([&](auto p) { acc[r.value][p.value] = f_zero(); }); });
  const auto* b = o.b;
  const auto* a = o.a;
  const int64_t row = o.a_row, a_step = o.a_step, b_step = o.b_step, b_panel = o.b_panel;
  // A step of two parts goes over a piece of b twice: with both at once, registers would not suffice.
  constexpr int kPiece = Step::kParts > 1 ? 128 : 1 << 30;
  for (int k = o.k; k > 0;) {
    const int n = k < kPiece ? k : kPiece;
    unroll<0, Step::kParts>([&](auto part) {
      const auto* at = b;
      const auto* from = a;
      for (int i = n; i > 0; i--, at += b_step, from += a_step) {
        decltype(Step::template load<part.value>(at)) w[P];
        unroll<0, P>([&](auto p) { w[p.value] = Step::template load<part.value>(at + p.value * b_panel); });
        unroll<0, R>([&](auto r) {
          const auto& x = from[r.value * row];
          unroll<0, P>([&](auto p) { acc[r.value][p.value] = Step::template step<part.value>(acc[r.value][p.value], w[p.value], x); });
        });
      }
    });
    k -= n;
    b += n * b_step;
    a += n * a_step;
  }
  unroll<0, R>([&](auto r) {
    unroll<0, P>([&](auto p) {
      const float* from = o.from ? o.from + r.value * o.from_row + p.value * 16 : nullptr;
      put(from, o.c + r.value * o.c_row + p.value * 16, acc[r.value][p.value], o.alpha, p.value == P - 1 ? lanes : 16);
    });
  });
}

// Rows are taken R at a time, then R / 2, ...: fewer shapes to compile.
template <class Step, int P, int R>
void all_rows(Operands<Step> o, int m, int lanes) {
  for (; m >= R; m -= R, o.a += R * o.a_row, o.c += R * o.c_row) {
    tile<Step, R, P>(o, lanes);
    if (o.from) o.from += R * o.from_row;
  }
  if constexpr (R > 1) all_rows<Step, P, R / 2>(o, m, lanes);
}

template <class Step>
void all(Operands<Step> o, int m, int n) {
  const int full = n / 16 * 16;
  int lane = 0;
  auto advance = [&](int panels) {
    o.b += panels * o.b_panel;
    o.c += panels * 16;
    if (o.from) o.from += panels * 16;
    lane += panels * 16;
  };
  if constexpr (kPanels > 1) {
    while (lane + kPanels * 16 <= full) all_rows<Step, kPanels, Step::kRowsAtOnce>(o, m, 16), advance(kPanels);
  }
  while (lane < n) all_rows<Step, 1, Step::kRowsAtOnce>(o, m, n - lane < 16 ? n - lane : 16), advance(1);
}

}  // namespace

void gemm_f32(const GemmF32& g) {
  all<StepFloat<float>>(
      {g.a, g.a_row, g.a_step, g.b, g.b_panel, g.b_step, g.accumulate ? g.c : nullptr, g.c_row, g.c, g.c_row, g.k, g.alpha}, g.m, g.n);
}

void gemm_half(const GemmHalf& g) {
  all<StepFloat<uint16_t>>(
      {g.a, g.a_row, g.a_step, g.b, g.b_panel, g.b_step, g.accumulate ? g.c : nullptr, g.c_row, g.c, g.c_row, g.k, g.alpha}, g.m, g.n);
}

// Scales go into a: they are the same for all lanes of a block, and a is much smaller than b.
void gemm_bytes(const GemmBytes& g) {
  float scaled[kRows * kByteSteps];
  for (int lane = 0; lane < g.n; lane += 32)
    for (int row = 0; row < g.m; row += kRows) {
      const int rows = g.m - row < kRows ? g.m - row : kRows;
      for (int i = 0; i < g.k; i += 16) {
        const F scale = f_from_half(g.scale + lane / 32 * kByteSteps + i);
        for (int r = 0; r < rows; r++) f_store(scaled + r * kByteSteps + i, f_mul(f_load(g.a + (row + r) * g.a_row + i), scale));
      }
      float* c = g.c + row * g.c_row + lane;
      all<StepFloat<int8_t>>({scaled, kByteSteps, 1, g.b + lane, 16, g.b_row, c, g.c_row, c, g.c_row, g.k, 1.0f}, rows,
                             g.n - lane < 32 ? g.n - lane : 32);
    }
}

void gemm_bf16(const GemmBf16& g) {
  all<StepBf16>({static_cast<const Pair*>(g.a), g.a_row, 1, g.b, g.b_panel, 16, g.from, g.from_row, g.c, g.c_row, g.pairs, 1.0f}, g.m, g.n);
}

}  // namespace fettle::FETTLE_KERNELS
