// Integer products: unsigned weight codes times signed int8 activations (VNNI or ARM's dot products where there are), summed exactly per
// group and then scaled in f32. Two shapes of the same sum. Few rows: codes stream from memory once and are expanded in registers, so that
// a token costs reading the weights. Many rows: a pair of panels is expanded once into cache and multiplied by tiles of rows.
#include "op/kernel/codes.h"

namespace fettle::FETTLE_KERNELS {
namespace {

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

// R rows by P panels, the first at `panel` and `apart` from one to the next.
template <class S, int R, int P>
void stream_tile(const GemmInt8& g, int panel, int apart, int row) {
  const B table = value_table<S>(g.layout);
  const int8_t* x = g.x + int64_t(row) * g.k;
  const int64_t panel_bytes = g.layout.panel_bytes(g.k), stride = apart * panel_bytes;
  F total[R][P];
  unroll<0, R>([&](auto r) { unroll<0, P>([&](auto p) { total[r.value][p.value] = f_zero(); }); });
  each_group<S, true, P>(
      g.panels + panel * panel_bytes, stride, g.k / S::kGroup, [&](int i, const uint8_t* w, const F(&scale)[P], const F(&min)[P]) {
        const XGroup<S> of_x(g, row, i);
        X inputs[R][S::kSteps / 4];
        unroll<0, R>([&](auto r) {
          unroll<0, S::kSteps / 4>([&](auto q) { inputs[r.value][q.value] = x_load(x + int64_t(r.value) * g.k + 16 * q.value); });
        });
        x += S::kGroup;
        unroll<0, P>([&](auto p) {
          DotSum<S::kBits> sum[R];
          unroll<0, R>([&](auto r) { sum[r.value] = dot_begin<S::kBits>(of_x.begin(r.value)); });
          Codes<S>(w + p.value * stride).each(table, [&](auto step, auto count, B codes) {
            const Factor<S::kBits> f = factor<S::kBits>(codes);
            unroll<0, R>([&](auto r) {
              dot_add<S::kBits, count.value, S::kSteps, step.value % 4>(sum[r.value], f, inputs[r.value][step.value / 4]);
            });
          });
          unroll<0, R>([&](auto r) {
            F& to = total[r.value][p.value];
            to =
                finish<S>(to, dot_end<S::kBits, S::kSteps>(sum[r.value], of_x.begin(r.value)), scale[p.value], min[p.value], of_x, r.value);
          });
        });
      });
  unroll<0, P>([&](auto p) {
    const int at = panel + p.value * apart;
    const F factor = f_load(g.row_factors + at * 16);
    unroll<0, R>([&](auto r) { put(g, row + r.value, at, f_mul(total[r.value][p.value], factor)); });
  });
}

// Rows are taken R at a time, then R / 2, ...: fewer shapes to compile, and the panel is in the first-level cache by then.
template <class S, int R>
void stream_rows(const GemmInt8& g, int panel, int row) {
  for (; row + R <= g.m; row += R) stream_tile<S, R, 1>(g, panel, 0, row);
  if constexpr (R > 1) stream_rows<S, R / 2>(g, panel, row);
}

template <class S>
void stream(const GemmInt8& g) {
  int panel = g.first_panel;
  if (g.m == 1) {  // one row leaves a core time to read from two places at once, which is faster than from one
    const int half = (g.last_panel - panel) / 2;
    for (const int end = panel + half; panel < end; panel++) stream_tile<S, 1, 2>(g, panel, half, 0);
    panel += half;
  }
  for (; panel < g.last_panel; panel++) stream_rows<S, kStreamRows>(g, panel, 0);
}

// ---- many rows

// An unpacked group: values, 16 f32 scales, 16 f32 mins.
template <class S>
constexpr int64_t kUnpacked = S::kGroup * 16 + 128;

template <class S>
void unpack_panel(const GemmInt8& g, int panel, uint8_t* out) {
  const B table = value_table<S>(g.layout);
  const uint8_t* w = g.panels + panel * g.layout.panel_bytes(g.k);
  each_group<S, false, 1>(w, 0, g.k / S::kGroup, [&](int, const uint8_t* group, const F(&scale)[1], const F(&min)[1]) {
    B even[2];  // of two steps the first, in either half of the group
    Codes<S>(group).each(table, [&](auto step, auto, B codes) {
      constexpr int kHalf = step.value >= S::kSteps / 2;
      if constexpr (step.value % 2 == 0) even[kHalf] = codes;
      if constexpr (step.value % 2 == 1) unit_codes(out + (step.value - 1) * 64, even[kHalf], codes);
    });
    float* f = reinterpret_cast<float*>(out + S::kGroup * 16);
    f_store(f, scale[0]);
    if (S::kAffine) f_store(f + 16, min[0]);
    out += kUnpacked<S>;
  });
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
  unroll<0, P>([&](auto p) {
    const F factor = f_load(g.row_factors + (panel + p.value) * 16);
    unroll<0, R>([&](auto r) { put(g, row + r.value, panel + p.value, f_mul(total[r.value][p.value], factor)); });
  });
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

void gemm_int8(const GemmInt8& g) {
  with_shape(g.layout, [&](auto shape) { run<decltype(shape)>(g); });
}

}  // namespace fettle::FETTLE_KERNELS
