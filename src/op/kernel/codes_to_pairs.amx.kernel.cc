// Weight codes as bf16 pairs, the right side of a product on tiles: a tile multiplies two bf16 in the time that bytes take under a scale
// per 32 inputs (simd/tiles.h), so that codes expanded once for many rows of a prompt are the faster product, and the more exact one.
#include "op/kernel/codes.h"

namespace fettle::FETTLE_KERNELS {
namespace {

// Byte `At` of each lane as a float.
template <int At>
inline F byte_value(B codes) {
  const I shifted = At == 0 ? codes : _mm512_srli_epi32(codes, 8 * At);
  return _mm512_cvtepi32_ps(At == 3 ? shifted : _mm512_and_si512(shifted, _mm512_set1_epi32(255)));
}

// Lane by lane (even, odd), each to the nearest bf16.
inline B interleaved_pairs(F even, F odd, B order) {
  const __m512bh both = _mm512_cvtne2ps_pbh(odd, even);  // even's 16, then odd's
  return _mm512_permutexvar_epi16(order, (__m512i)both);
}

template <class S>
void expand(const CodesToPairs& g) {
  alignas(64) uint16_t lanes[32];
  for (int i = 0; i < 32; i++) lanes[i] = uint16_t(i % 2 * 16 + i / 2);
  const B order = b_load(lanes), table = value_table<S>(g.layout);
  const F factor = f_load(g.row_factors), zero = f_set1(float(-g.layout.zero));
  const uint8_t* next = g.next;
  uint32_t* to = g.out;
  each_group<S, false, 1>(g.codes, 0, g.groups, [&](int, const uint8_t* w, const F(&scales)[1], const F(&mins)[1]) {
    for (int line = 0; line < S::kBytes + 64; line += 64) prefetch(next + line);
    next += S::kBytes + 64;
    const F scale = f_mul(scales[0], factor), min = S::kAffine ? f_mul(mins[0], factor) : f_mul(scale, zero);
    uint32_t* out = to;
    Codes<S>(w).each(table, [&](auto step, auto, B codes) {
      const F a = f_fma(scale, byte_value<0>(codes), min), b = f_fma(scale, byte_value<1>(codes), min);
      const F c = f_fma(scale, byte_value<2>(codes), min), d = f_fma(scale, byte_value<3>(codes), min);
      b_store(out + step.value * 32, interleaved_pairs(a, b, order));
      b_store(out + step.value * 32 + 16, interleaved_pairs(c, d, order));
    });
    to += S::kGroup / 2 * 16;
  });
}

}  // namespace

void codes_to_pairs(const CodesToPairs& g) {
  with_shape(g.layout, [&](auto shape) { expand<decltype(shape)>(g); });
}

}  // namespace fettle::FETTLE_KERNELS
