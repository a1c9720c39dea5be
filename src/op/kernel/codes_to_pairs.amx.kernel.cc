// Weight codes as bf16 pairs, the right side of a product on tiles: a tile multiplies two bf16 in the time that bytes take under a scale
// per 32 inputs (simd/tiles.h), so that codes expanded once for many rows of a prompt are the faster product, and the more exact one.
#include "op/kernel/codes.h"

namespace fettle::FETTLE_KERNELS {
namespace {

// Where the bytes of one step go: vector v has the pairs (inputs 0 and 1, or 2 and 3: v / 2) of eight lanes (the first, or the last: v %
// 2), a dword an input, so that two such vectors, rounded to bf16, are the pairs of all lanes as they have to lie.
struct Order {
  B bytes[4];  // that of dword d at byte `at` of it
  I lanes[2];  // the lane of each dword
  explicit Order(int at) {
    alignas(64) uint8_t from[4][64] = {};
    alignas(64) int32_t lane[2][16];
    for (int d = 0; d < 16; d++) {
      for (int v = 0; v < 4; v++) from[v][4 * d + at] = uint8_t((v % 2 * 8 + d / 2) * 4 + v / 2 * 2 + d % 2);
      for (int v = 0; v < 2; v++) lane[v][d] = v * 8 + d / 2;
    }
    for (int v = 0; v < 4; v++) bytes[v] = b_load(from[v]);
    for (int v = 0; v < 2; v++) lanes[v] = _mm512_load_si512(lane[v]);
  }
};

// Codes below 128 become floats where they are put: as the upper bits of a mantissa, code q is the number 2 + q / 64.
template <class S>
void expand(const CodesToPairs& g) {
  constexpr int kNear = 1024;
  constexpr bool kMantissa = S::kBits < 8;
  constexpr int kAt = kMantissa ? 2 : 0;
  constexpr __mmask64 kMask = 0x1111111111111111ull << kAt;
  const Order order(kAt);
  const I base = _mm512_set1_epi32(kMantissa ? 0x40000000 : 0);
  const B table = value_table<S>(g.layout);
  const F factor = f_mul(f_load(g.row_factors), f_set1(kMantissa ? 64.0f : 1.0f)), zero = f_set1(float(-g.layout.zero));
  uint32_t* to = g.out;
  each_group<S, false, 1>(g.codes, 0, g.groups, [&](int, const uint8_t* w, const F(&scales)[1], const F(&mins)[1]) {
    for (int line = 0; line < S::kBytes + 64; line += 64) prefetch(w + kNear + line);  // they are in the second-level cache
    const F scale = f_mul(scales[0], factor);
    F min = S::kAffine ? f_mul(mins[0], f_load(g.row_factors)) : f_mul(scale, f_mul(zero, f_set1(kMantissa ? 1.0f / 64 : 1.0f)));
    if (kMantissa) min = _mm512_sub_ps(min, f_add(scale, scale));
    const F scale_of[2] = {_mm512_permutexvar_ps(order.lanes[0], scale), _mm512_permutexvar_ps(order.lanes[1], scale)};
    const F min_of[2] = {_mm512_permutexvar_ps(order.lanes[0], min), _mm512_permutexvar_ps(order.lanes[1], min)};
    uint32_t* out = to;
    Codes<S>(w).each(table, [&](auto step, auto, B codes) {
      const auto values = [&](int v) {
        const I placed = _mm512_mask_permutexvar_epi8(base, kMask, order.bytes[v], codes);
        return f_fma(scale_of[v % 2], kMantissa ? _mm512_castsi512_ps(placed) : _mm512_cvtepi32_ps(placed), min_of[v % 2]);
      };
      b_store(out + step.value * 32, (__m512i)_mm512_cvtne2ps_pbh(values(1), values(0)));
      b_store(out + step.value * 32 + 16, (__m512i)_mm512_cvtne2ps_pbh(values(3), values(2)));
    });
    to += S::kGroup / 2 * 16;
  });
}

}  // namespace

void codes_to_pairs(const CodesToPairs& g) {
  with_shape(g.layout, [&](auto shape) { expand<decltype(shape)>(g); });
}

}  // namespace fettle::FETTLE_KERNELS
