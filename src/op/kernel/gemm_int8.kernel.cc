// Integer products: unsigned weight codes times signed int8 activations (VNNI or ARM's dot products where there are), summed exactly per
// group and then scaled in f32. Two shapes of the same sum. Few rows: codes stream from memory once and are expanded in registers, so that
// a token costs reading the weights. Many rows: a pair of panels is expanded once into cache and multiplied by tiles of rows.
#include "op/kernel/gemm.h"

namespace fettle::FETTLE_KERNELS {
namespace {

// What the codes of a layout look like: packed in `Packed` bits, values below 2^Bits once expanded (a table's values are bytes).
template <int Group_, int Packed_, bool Table_, bool Affine_>
struct Shape {
  static constexpr int kGroup = Group_, kPacked = Packed_, kBits = Table_ ? 8 : Packed_;
  static constexpr bool kTable = Table_, kAffine = Affine_;
  static constexpr bool kFlip = kBits == 8 && kSignedBytes;                        // bytes are multiplied as signed: zero is 0, not 128
  static constexpr int kSteps = kGroup / 4;                                        // vectors of 64 expanded codes
  static constexpr int kLoads = kPacked == 8 ? kSteps : kSteps / 2;                // vectors to visit; all but 8 bits give two steps each
  static constexpr int kUpper = kPacked == 5 ? 1 : kPacked == 6 ? kSteps / 4 : 0;  // vectors of upper bits
  static constexpr int kBytes = kGroup * 16 * kPacked / 8;
  static constexpr int64_t kGroupBytes = kBytes + (kAffine ? 64 : 32);  // IntPanelLayout::group_bytes(), known to the compiler
};

template <class S>
inline B value_table(const GemmInt8& g) {
  if constexpr (!S::kTable) return B{};
  const B table = b_table(g.layout.table);
  return S::kFlip ? b_flip(table) : table;
}

// The packed codes of one group of a panel, expanded a vector at a time.
template <class S>
struct Codes {
  const uint8_t* w;
  B upper[S::kUpper ? S::kUpper : 1];

  [[gnu::always_inline]] explicit Codes(const uint8_t* at) : w(at) {
    if constexpr (S::kUpper > 0) unroll<0, S::kUpper>([&](auto i) { upper[i.value] = b_load(w + (S::kLoads + i.value) * 64); });
  }
  // Step At, its lower 4 bits given.
  template <int At>
  [[gnu::always_inline]] B complete(B lower, B table) const {
    if constexpr (S::kPacked == 5) return b_or(lower, b_shift_mask<4 - At, 0x10>(upper[0]));
    if constexpr (S::kPacked == 6) return b_or(lower, b_shift_mask<4 - At % 4 * 2, 0x30>(upper[At / 4]));
    if constexpr (S::kTable) return b_lookup(table, lower);
    return lower;
  }
  // body(Index<step>, Index<how many before>, values) for every step, in the order in which they lie in memory.
  template <class Body>
  [[gnu::always_inline]] void each(B table, Body&& body) const {
    unroll<0, S::kLoads>([&](auto c) {
      const B codes = b_load(w + c.value * 64);
      if constexpr (S::kPacked == 8) {
        body(c, c, S::kFlip ? b_flip(codes) : codes);
      } else {
        constexpr int kHigh = c.value + S::kSteps / 2;
        body(c, Index<2 * c.value>{}, this->template complete<c.value>(b_low(codes), table));
        body(Index<kHigh>{}, Index<2 * c.value + 1>{}, this->template complete<kHigh>(b_high(codes), table));
      }
    });
  }
};

// Rows of x of one group, from `row` on.
template <class S>
struct XGroup {
  const float *scale, *offset, *sum;
  const int32_t* start;
  XGroup(const GemmInt8& g, int row, int group)
      : scale(g.x_scale + group * S::kGroup / 32 * g.x_rows + row),
        offset(g.x_offset + group * S::kGroup / 32 * g.x_rows + row),
        sum(S::kAffine ? g.x_sum + group * g.x_rows + row : nullptr),
        start(S::kAffine || S::kFlip ? nullptr : g.x_start + group * g.x_rows + row) {}
  int32_t begin(int r) const { return S::kAffine || S::kFlip ? kSumStart : start[r]; }
};

// The f32 side of a group: total += scale * x_scale * sum + min * x_sum. `sum` is a number above kSumStartValue.
template <class S>
inline F finish(F total, F sum, F scale, F min, const XGroup<S>& x, int r) {
  total = f_fma(dot_scaled(sum, x.scale[r], x.offset[r]), scale, total);
  return S::kAffine ? f_fma1(x.sum[r], min, total) : total;
}

inline void put(const GemmInt8& g, int row, int panel, F x) {
  float* c = g.c + int64_t(row) * g.c_row + panel * 16;
  const int lanes = g.n - panel * 16;
  lanes >= 16 ? f_store(c, x) : f_store_n(c, x, lanes);
}

// ---- few rows

template <class S, int R>
void stream_panel(const GemmInt8& g, int panel, int row) {
  const int groups = g.k / S::kGroup;
  constexpr int64_t bytes = S::kGroupBytes, ahead = 2048;
  const uint8_t* w = g.panels + int64_t(panel) * groups * bytes;
  const B table = value_table<S>(g);
  const int8_t* x = g.x + int64_t(row) * g.k;
  F total[R];
  unroll<0, R>([&](auto r) { total[r.value] = f_zero(); });
  for (int i = 0; i < groups; i++, w += bytes, x += S::kGroup) {
    DotSum<S::kBits> sum[R];
    const XGroup<S> of_x(g, row, i);
    unroll<0, R>([&](auto r) { sum[r.value] = dot_begin<S::kBits>(of_x.begin(r.value)); });
    for (int64_t line = 0; line < bytes; line += 64) prefetch(w + ahead + line);
    X inputs[R][S::kSteps / 4];
    unroll<0, R>([&](auto r) {
      unroll<0, S::kSteps / 4>([&](auto q) { inputs[r.value][q.value] = x_load(x + int64_t(r.value) * g.k + 16 * q.value); });
    });
    Codes<S>(w).each(table, [&](auto step, auto count, B codes) {
      const Factor<S::kBits> f = factor<S::kBits>(codes);
      unroll<0, R>(
          [&](auto r) { dot_add<S::kBits, count.value, S::kSteps, step.value % 4>(sum[r.value], f, inputs[r.value][step.value / 4]); });
    });
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(w + S::kBytes);
    const F scale = f_from_half(scales), min = S::kAffine ? f_from_half(scales + 16) : f_zero();
    unroll<0, R>([&](auto r) {
      const F whole = dot_end<S::kBits, S::kSteps>(sum[r.value], of_x.begin(r.value));
      total[r.value] = finish<S>(total[r.value], whole, scale, min, of_x, r.value);
    });
  }
  F factor = f_load(g.row_factors + panel * 16);
  unroll<0, R>([&](auto r) { put(g, row + r.value, panel, f_mul(total[r.value], factor)); });
}

// Rows are taken R at a time, then R / 2, ...: fewer shapes to compile, and the panel is in the first-level cache by then.
template <class S, int R>
void stream_rows(const GemmInt8& g, int panel, int row) {
  for (; row + R <= g.m; row += R) stream_panel<S, R>(g, panel, row);
  if constexpr (R > 1) stream_rows<S, R / 2>(g, panel, row);
}

template <class S>
void stream(const GemmInt8& g) {
  for (int panel = g.first_panel; panel < g.last_panel; panel++) stream_rows<S, kStreamRows>(g, panel, 0);
}

// ---- many rows

// An unpacked group: values, 16 f32 scales, 16 f32 mins (row factors folded in).
template <class S>
constexpr int64_t kUnpacked = S::kGroup * 16 + 128;

template <class S>
void unpack_panel(const GemmInt8& g, int panel, uint8_t* out) {
  const int groups = g.k / S::kGroup;
  constexpr int64_t bytes = S::kGroupBytes;
  const uint8_t* w = g.panels + int64_t(panel) * groups * bytes;
  const B table = value_table<S>(g);
  F factor = f_load(g.row_factors + panel * 16);
  for (int i = 0; i < groups; i++, w += bytes, out += kUnpacked<S>) {
    B even[2];  // of two steps the first, in either half of the group
    Codes<S>(w).each(table, [&](auto step, auto, B codes) {
      constexpr int kHalf = step.value >= S::kSteps / 2;
      if constexpr (step.value % 2 == 0) even[kHalf] = codes;
      if constexpr (step.value % 2 == 1) unit_codes(out + (step.value - 1) * 64, even[kHalf], codes);
    });
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(w + S::kBytes);
    float* f = reinterpret_cast<float*>(out + S::kGroup * 16);
    f_store(f, f_mul(f_from_half(scales), factor));
    if (S::kAffine) f_store(f + 16, f_mul(f_from_half(scales + 16), factor));
  }
}

template <class S, int R, int P>
[[gnu::noinline]] void int_tile(const GemmInt8& g, const uint8_t* w, int64_t panel_bytes, int panel, int row) {
  // Rows short of a unit: the last one stands in for the others.
  constexpr int kUnits = (R + kUnitRows - 1) / kUnitRows;
  constexpr auto last = [](int unit) { return (unit + 1) * kUnitRows < R ? (unit + 1) * kUnitRows - 1 : R - 1; };
  const int groups = g.k / S::kGroup;
  F total[R][P];
  unroll<0, R>([&](auto r) { unroll<0, P>([&](auto p) { total[r.value][p.value] = f_zero(); }); });
  const int8_t* x = g.x + int64_t(row) * g.k;
  for (int i = 0; i < groups; i++, w += kUnpacked<S>, x += S::kGroup) {
    UnitSum<S::kBits> sum[kUnits][P];
    const XGroup<S> of_x(g, row, i);
    unroll<0, kUnits>([&](auto u) {
      const auto begin = unit_begin<S::kBits>(of_x.begin(u.value * kUnitRows), of_x.begin(last(u.value)));
      unroll<0, P>([&](auto p) { sum[u.value][p.value] = begin; });
    });
    UnitX inputs[kUnits];
    unroll<0, S::kSteps>([&](auto c) {
      if constexpr (c.value % 4 == 0)
        unroll<0, kUnits>([&](auto u) {
          const int8_t* at = x + 4 * c.value;
          inputs[u.value] = unit_x(at + int64_t(u.value) * kUnitRows * g.k, at + int64_t(last(u.value)) * g.k);
        });
      Factor<S::kBits> codes[P];
      unroll<0, P>([&](auto p) { codes[p.value] = factor<S::kBits>(b_load(w + p.value * panel_bytes + c.value * 64)); });
      unroll<0, kUnits>([&](auto u) {
        unroll<0, P>([&](auto p) { unit_add<S::kBits, c.value, S::kSteps>(sum[u.value][p.value], codes[p.value], inputs[u.value]); });
      });
    });
    F scale[P], min[P];
    unroll<0, P>([&](auto p) {
      const float* f = reinterpret_cast<const float*>(w + p.value * panel_bytes + S::kGroup * 16);
      scale[p.value] = f_load(f);
      min[p.value] = S::kAffine ? f_load(f + 16) : f_zero();
    });
    // Row by row: what belongs to a row of x is in registers for one row at a time.
    unroll<0, R>([&](auto r) {
      unroll<0, P>([&](auto p) {
        const auto& unit = sum[r.value / kUnitRows][p.value];
        const F whole = unit_end<S::kBits, S::kSteps, r.value % kUnitRows>(unit, of_x.begin(r.value));
        total[r.value][p.value] = finish<S>(total[r.value][p.value], whole, scale[p.value], min[p.value], of_x, r.value);
      });
    });
  }
  unroll<0, R>([&](auto r) { unroll<0, P>([&](auto p) { put(g, row + r.value, panel + p.value, total[r.value][p.value]); }); });
}

template <class S, int R, int P>
void int_tiles(const GemmInt8& g, int64_t panel_bytes, int panel, int row) {
  for (; row + R <= g.m; row += R) int_tile<S, R, P>(g, g.scratch, panel_bytes, panel, row);
  if constexpr (R > 1) int_tiles<S, R / 2, P>(g, panel_bytes, panel, row);
}

template <class S, int P>
void expanded(const GemmInt8& g, int panel) {
  const int64_t panel_bytes = g.k / S::kGroup * kUnpacked<S>;
  for (int p = 0; p < P; p++) unpack_panel<S>(g, panel + p, g.scratch + p * panel_bytes);
  int_tiles<S, P == kIntPanels ? kIntRows<S::kBits> : 2, P>(g, panel_bytes, panel, 0);  // an odd last panel is rare
}

template <class S>
void run(const GemmInt8& g) {
  if (!g.scratch) return stream<S>(g);
  int panel = g.first_panel;
  if constexpr (kIntPanels > 1) {
    for (; panel + kIntPanels <= g.last_panel; panel += kIntPanels) expanded<S, kIntPanels>(g, panel);
  }
  for (; panel < g.last_panel; panel++) expanded<S, 1>(g, panel);
}

}  // namespace

// One line per shape that a format has: each costs seconds of compiling. panels.cc (panel_bits) knows the same list.
void gemm_int8(const GemmInt8& g) {
  const IntPanelLayout& l = g.layout;
  if (l.group == 16) {
    if (l.bits == 6) return run<Shape<16, 6, false, false>>(g);
    if (l.table) return run<Shape<16, 4, true, false>>(g);
    return l.affine ? run<Shape<16, 4, false, true>>(g) : run<Shape<16, 4, false, false>>(g);
  }
  if (l.bits == 8) return run<Shape<32, 8, false, false>>(g);
  if (l.bits == 5) return l.affine ? run<Shape<32, 5, false, true>>(g) : run<Shape<32, 5, false, false>>(g);
  if (l.table) return run<Shape<32, 4, true, false>>(g);
  l.affine ? run<Shape<32, 4, false, true>>(g) : run<Shape<32, 4, false, false>>(g);
}

}  // namespace fettle::FETTLE_KERNELS
