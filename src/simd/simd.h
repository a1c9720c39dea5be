// Room simd: the vocabulary that kernels are written in. Always 16 lanes of f32 or i32 and 64 lanes of bytes, whatever the machine's own
// width, so that a kernel is one source and panel layouts are the same everywhere. Only *.kernel.cc files include this; CMake compiles each
// once per instruction set with FETTLE_ISA set. No standard containers here: a weak symbol of theirs could be linked into baseline code.
//
//   F  16 x f32      I  16 x i32      B  64 x u8 (or 32 x bf16)      X  16 x i8, of one row of inputs
//   f_fma1: f_fma by one number; apart, as some machines need no vector filled with it
//   kRows, kPanels: the register tile that the instruction set has room for, kRows rows by kPanels panels of 16.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#define FETTLE_CAT2(a, b) a##b
#define FETTLE_CAT(a, b) FETTLE_CAT2(a, b)
// The namespace of this instruction set's copy of the kernels.
#define FETTLE_KERNELS FETTLE_CAT(kernels_, FETTLE_ISA)

namespace fettle::FETTLE_KERNELS::simd {

// 4 of the bytes at x.
template <int At>
inline int32_t four(const int8_t* x) {
  int32_t v;
  std::memcpy(&v, x + 4 * At, 4);
  return v;
}

}  // namespace fettle::FETTLE_KERNELS::simd

#if defined(FETTLE_ISA_avx512) || defined(FETTLE_ISA_avx512_bf16) || defined(FETTLE_ISA_amx)
#include "simd/avx512.h"
#elif defined(FETTLE_ISA_avx2)
#include "simd/avx2.h"
#elif defined(FETTLE_ISA_neon) || defined(FETTLE_ISA_neon_i8mm)
#include "simd/neon.h"
#else
#include "simd/portable.h"
#endif

namespace fettle::FETTLE_KERNELS {

using namespace simd;

#if !defined(FETTLE_ISA_neon_i8mm)  // which multiplies rows two by two
// What tiles of integer products are made of: units of as many rows as the instruction set multiplies at once, read row by row at the
// end.
constexpr int kUnitRows = 1;
template <int Bits>
using UnitSum = DotSum<Bits>;
using UnitX = X;
// 16 inputs of each row, from the first row's and the last row's.
inline UnitX unit_x(const int8_t* first, const int8_t*) { return x_load(first); }
// Stores the codes of two steps where unit_add reads them.
inline void unit_codes(uint8_t* out, B even, B odd) { b_store(out, even), b_store(out + 64, odd); }
template <int Bits>
inline UnitSum<Bits> unit_begin(int32_t first, int32_t) {
  return dot_begin<Bits>(first);
}
template <int Bits, int Step, int Steps>
inline void unit_add(UnitSum<Bits>& sum, const Factor<Bits>& codes, UnitX x) {
  dot_add<Bits, Step, Steps, Step % 4>(sum, codes, x);
}
template <int Bits, int Steps, int Row>
inline F unit_end(const UnitSum<Bits>& sum, int32_t start) {
  return dot_end<Bits, Steps>(sum, start);
}
#endif

#if !defined(FETTLE_ISA_avx512_bf16) && !defined(FETTLE_ISA_neon_i8mm)  // which multiply pairs as they are
// bf16 pairs against two floats: each half of a dword is widened (bf16_load) and multiplied alone.
constexpr int kBf16Parts = 2;
struct Pair {
  float x[2];
};
template <int Part>
inline F bf16_step(const F& acc, const F& w, const Pair& x) {
  return f_fma1(x.x[Part], w, acc);
}
#endif

// e^x for x in about [-87, 88]; relative error below 2e-7 (Cephes' polynomial after range reduction by ln 2 in two parts).
inline F f_exp(F x) {
  x = f_min(f_max(x, f_set1(-87.3f)), f_set1(88.3f));
  F n = f_round(f_mul(x, f_set1(1.44269504088896341f)));
  F r = f_fma(n, f_set1(-0.693359375f), x);
  r = f_fma(n, f_set1(2.12194440e-4f), r);
  F p = f_set1(1.9875691500e-4f);
  p = f_fma(p, r, f_set1(1.3981999507e-3f));
  p = f_fma(p, r, f_set1(8.3334519073e-3f));
  p = f_fma(p, r, f_set1(4.1665795894e-2f));
  p = f_fma(p, r, f_set1(1.6666665459e-1f));
  p = f_fma(p, r, f_set1(5.0000001201e-1f));
  p = f_add(f_fma(p, f_mul(r, r), r), f_set1(1.0f));
  return f_scale2(p, n);
}

}  // namespace fettle::FETTLE_KERNELS
