// Integer products: unsigned weight codes times signed int8 activations (VNNI where there is one), summed exactly per group and then scaled
// in f32. Two shapes of the same sum. Few rows: codes stream from memory once and are expanded in registers, so that a token costs reading
// the weights. Many rows: a pair of panels is expanded once into cache and multiplied by tiles of rows.
#include "op/kernel/gemm.h"

namespace fettle::FETTLE_KERNELS {
namespace {

inline int32_t load4(const int8_t* p) {
  int32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

// body(Index<0>) ... body(Index<N - 1>), so that shifts are constants.
template <int I>
struct Index {
  static constexpr int value = I;
};
template <int I, int N, class Body>
[[gnu::always_inline]] inline void unroll(Body&& body) {
  if constexpr (I < N) {
    body(Index<I>{});
    unroll<I + 1, N>(body);
  }
}

// The packed codes of one group of a panel, expanded a vector at a time.
template <int G, int Bits>
struct Codes {
  static constexpr int kSteps = G / 4;                                       // vectors of 64 expanded codes
  static constexpr int kLoads = Bits == 8 ? kSteps : kSteps / 2;             // vectors to visit; all but 8 bits give two steps each
  static constexpr int kUpper = Bits == 5 ? 1 : Bits == 6 ? kSteps / 4 : 0;  // vectors of upper bits
  static constexpr int kBytes = G * 16 * Bits / 8;
  B upper[kUpper ? kUpper : 1];

  [[gnu::always_inline]] explicit Codes(const uint8_t* w) {
    if constexpr (kUpper > 0) unroll<0, kUpper>([&](auto i) { upper[i.value] = b_load(w + (kLoads + i.value) * 64); });
  }
  // Step S, its lower 4 bits given.
  template <int S>
  [[gnu::always_inline]] B complete(B lower) const {
    if constexpr (Bits == 5) return b_or(lower, b_shift_mask<4 - S, 0x10>(upper[0]));
    if constexpr (Bits == 6) return b_or(lower, b_shift_mask<4 - S % 4 * 2, 0x30>(upper[S / 4]));
    return lower;
  }
};

// sum = integer sum of a group; total += scale * (x_scale * sum + x_offset) (+ min * x_sum).
template <bool Affine>
inline F finish(F total, I sum, F scale, F min, float x_scale, float x_offset, float x_sum) {
  F t = f_fma(i_to_f(sum), f_set1(x_scale), f_set1(x_offset));
  total = f_fma(t, scale, total);
  return Affine ? f_fma(min, f_set1(x_sum), total) : total;
}

// ---- few rows

template <int R, int G, int Bits, bool Affine>
void stream_panel(const GemmInt8& g, int panel, int row) {
  const int groups = g.k / G;
  const int64_t bytes = g.layout.group_bytes(), ahead = 2048;
  const uint8_t* w = g.panels + int64_t(panel) * groups * bytes;
  const B table = g.layout.table ? b_table(g.layout.table) : B{};
  const bool lookup = g.layout.table != nullptr;
  F total[R];
  for (int r = 0; r < R; r++) total[r] = f_zero();
  for (int i = 0; i < groups; i++, w += bytes) {
    I sum[R];
    for (int r = 0; r < R; r++) sum[r] = i_zero();
    using Group = Codes<G, Bits>;
    const Group group(w);
    unroll<0, Group::kLoads>([&](auto c) {
      prefetch(w + ahead + c.value * 64);
      B codes = b_load(w + c.value * 64);
      if constexpr (Bits == 8) {
        for (int r = 0; r < R; r++) sum[r] = dot_u8s8(sum[r], codes, load4(g.x + int64_t(row + r) * g.k + i * G + 4 * c.value));
      } else {
        B low = group.template complete<c.value>(b_low(codes)), high = group.template complete<c.value + G / 8>(b_high(codes));
        if (Bits == 4 && lookup) low = b_lookup(table, low), high = b_lookup(table, high);
        for (int r = 0; r < R; r++) {
          const int8_t* x = g.x + int64_t(row + r) * g.k + i * G + 4 * c.value;
          sum[r] = dot_u8s8(sum[r], low, load4(x));
          sum[r] = dot_u8s8(sum[r], high, load4(x + G / 2));
        }
      }
    });
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(w + Group::kBytes);
    F scale = f_from_half(scales), min = Affine ? f_from_half(scales + 16) : f_zero();
    for (int r = 0; r < R; r++) {
      int64_t at = int64_t(row + r) * groups + i;
      total[r] = finish<Affine>(total[r], sum[r], scale, min, g.x_scale[int64_t(row + r) * (g.k / 32) + i * G / 32],
                                g.x_offset ? g.x_offset[at] : 0, Affine ? g.x_sum[at] : 0);
    }
  }
  F factor = f_load(g.row_factors + panel * 16);
  const int lanes = g.n - panel * 16;
  for (int r = 0; r < R; r++) {
    float* c = g.c + int64_t(row + r) * g.c_row + panel * 16;
    if (lanes >= 16)
      f_store(c, f_mul(total[r], factor));
    else
      f_store_n(c, f_mul(total[r], factor), lanes);
  }
}

template <int R, int G, int Bits, bool Affine>
void stream_rows(int rows, const GemmInt8& g, int panel, int row) {
  if constexpr (R > 1) {
    if (rows < R) return stream_rows<R - 1, G, Bits, Affine>(rows, g, panel, row);
  }
  stream_panel<R, G, Bits, Affine>(g, panel, row);
}

// Rows are split evenly: 9 rows are 5 and 4.
template <int G, int Bits, bool Affine>
void stream(const GemmInt8& g) {
  const int parts = (g.m + kStreamRows - 1) / kStreamRows;
  for (int panel = g.first_panel; panel < g.last_panel; panel++)
    for (int i = 0; i < parts; i++) {
      const int first = g.m * i / parts;
      stream_rows<kStreamRows, G, Bits, Affine>(g.m * (i + 1) / parts - first, g, panel, first);
    }
}

// ---- many rows

// An unpacked group: G * 16 bytes of values, 16 f32 scales, 16 f32 mins (row factors folded in).
template <int G>
constexpr int64_t kUnpacked = G * 16 + 128;

template <int G, int Bits, bool Affine>
void unpack_panel(const GemmInt8& g, int panel, uint8_t* out) {
  const int groups = g.k / G;
  const int64_t bytes = g.layout.group_bytes();
  const uint8_t* w = g.panels + int64_t(panel) * groups * bytes;
  const B table = g.layout.table ? b_table(g.layout.table) : B{};
  const bool lookup = g.layout.table != nullptr;
  F factor = f_load(g.row_factors + panel * 16);
  for (int i = 0; i < groups; i++, w += bytes, out += kUnpacked<G>) {
    using Group = Codes<G, Bits>;
    const Group group(w);
    unroll<0, Group::kLoads>([&](auto c) {
      B codes = b_load(w + c.value * 64);
      if constexpr (Bits == 8) {
        b_store(out + c.value * 64, codes);
      } else {
        B low = group.template complete<c.value>(b_low(codes)), high = group.template complete<c.value + G / 8>(b_high(codes));
        if (Bits == 4 && lookup) low = b_lookup(table, low), high = b_lookup(table, high);
        b_store(out + c.value * 64, low);
        b_store(out + (G / 8 + c.value) * 64, high);
      }
    });
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(w + Group::kBytes);
    float* f = reinterpret_cast<float*>(out + G * 16);
    f_store(f, f_mul(f_from_half(scales), factor));
    if (Affine) f_store(f + 16, f_mul(f_from_half(scales + 16), factor));
  }
}

template <int R, int P, int G, bool Affine>
void int_tile(const GemmInt8& g, const uint8_t* w, int64_t panel_bytes, int panel, int row) {
  const int groups = g.k / G, blocks = g.k / 32;
  F total[R][P];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) total[r][p] = f_zero();
  const int8_t* x = g.x + int64_t(row) * g.k;
  for (int i = 0; i < groups; i++, w += kUnpacked<G>, x += G) {
    I sum[R][P];
    for (int r = 0; r < R; r++)
      for (int p = 0; p < P; p++) sum[r][p] = i_zero();
    for (int c = 0; c < G / 4; c++) {
      B codes[P];
      for (int p = 0; p < P; p++) codes[p] = b_load(w + p * panel_bytes + c * 64);
      for (int r = 0; r < R; r++) {
        int32_t x4 = load4(x + int64_t(r) * g.k + 4 * c);
        for (int p = 0; p < P; p++) sum[r][p] = dot_u8s8(sum[r][p], codes[p], x4);
      }
    }
    for (int p = 0; p < P; p++) {
      const float* f = reinterpret_cast<const float*>(w + p * panel_bytes + G * 16);
      F scale = f_load(f), min = Affine ? f_load(f + 16) : f_zero();
      for (int r = 0; r < R; r++) {
        int64_t at = int64_t(row + r) * groups + i;
        total[r][p] = finish<Affine>(total[r][p], sum[r][p], scale, min, g.x_scale[int64_t(row + r) * blocks + i * G / 32],
                                     g.x_offset ? g.x_offset[at] : 0, Affine ? g.x_sum[at] : 0);
      }
    }
  }
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) {
      float* c = g.c + int64_t(row + r) * g.c_row + (panel + p) * 16;
      int lanes = g.n - (panel + p) * 16;
      if (lanes >= 16)
        f_store(c, total[r][p]);
      else
        f_store_n(c, total[r][p], lanes);
    }
}

template <int R, int P, int G, bool Affine>
void int_tile_of(int rows, const GemmInt8& g, const uint8_t* w, int64_t panel_bytes, int panel, int row) {
  if constexpr (R > 1) {
    if (rows < R) return int_tile_of<R - 1, P, G, Affine>(rows, g, w, panel_bytes, panel, row);
  }
  int_tile<R, P, G, Affine>(g, w, panel_bytes, panel, row);
}

template <int P, int G, int Bits, bool Affine>
void expanded(const GemmInt8& g, int panel) {
  const int64_t panel_bytes = g.k / G * kUnpacked<G>;
  for (int p = 0; p < P; p++) unpack_panel<G, Bits, Affine>(g, panel + p, g.scratch + p * panel_bytes);
  for (int row = 0; row < g.m; row += kIntRows)
    int_tile_of<kIntRows, P, G, Affine>(g.m - row < kIntRows ? g.m - row : kIntRows, g, g.scratch, panel_bytes, panel, row);
}

template <int G, int Bits, bool Affine>
void run(const GemmInt8& g) {
  if (!g.scratch) return stream<G, Bits, Affine>(g);
  int panel = g.first_panel;
  if constexpr (kIntPanels > 1) {
    for (; panel + kIntPanels <= g.last_panel; panel += kIntPanels) expanded<kIntPanels, G, Bits, Affine>(g, panel);
  }
  for (; panel < g.last_panel; panel++) expanded<1, G, Bits, Affine>(g, panel);
}

template <int G, int Bits>
void run_bits(const GemmInt8& g) {
  g.layout.affine ? run<G, Bits, true>(g) : run<G, Bits, false>(g);
}

}  // namespace

void gemm_int8(const GemmInt8& g) {
  const IntPanelLayout& l = g.layout;
  if (l.group == 32) switch (l.bits) {
      case 4:
        return run_bits<32, 4>(g);
      case 5:
        return run_bits<32, 5>(g);
      case 6:
        return run_bits<32, 6>(g);
      default:
        return run_bits<32, 8>(g);
    }
  switch (l.bits) {
    case 4:
      return run_bits<16, 4>(g);
    case 6:
      return run_bits<16, 6>(g);
    default:
      return run_bits<16, 8>(g);
  }
}

}  // namespace fettle::FETTLE_KERNELS
