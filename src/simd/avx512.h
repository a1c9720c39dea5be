// AVX-512 F/BW/DQ/VL with VNNI: one register is one value of the vocabulary. Compiled twice: avx512_bf16 has products of bf16 pairs
// besides, which pay where they take no longer than an f32 product (AMD Zen 4); on Intel's they take four times as long.
#pragma once
#include <immintrin.h>

namespace fettle::FETTLE_KERNELS::simd {

using F = __m512;
using I = __m512i;
using B = __m512i;
using X = const int8_t*;
constexpr int kRows = 12, kPanels = 2;  // f32 and bf16 products: 24 accumulators
constexpr int kIntPanels = 2;
template <int Bits>
constexpr int kIntRows = 6;           // integer products need an integer and a float accumulator each
constexpr int kStreamRows = 8;        // integer products straight from packed codes
constexpr bool kSignedBytes = false;  // factor<8>() takes bytes as they are

// The compiler may not assume what these hold afterwards.
inline void pin(__m512& x) { asm volatile("" : "+v"(x)); }
inline void pin(__m512i& x) { asm volatile("" : "+v"(x)); }

inline F f_zero() { return _mm512_setzero_ps(); }
inline F f_set1(float x) { return _mm512_set1_ps(x); }
inline F f_load(const float* p) { return _mm512_loadu_ps(p); }
inline void f_store(float* p, F x) { _mm512_storeu_ps(p, x); }
inline F f_load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p); }
inline void f_store_n(float* p, F x, int n) { _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), x); }
inline F f_add(F a, F b) { return _mm512_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm512_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F f_fma1(float a, F b, F c) { return f_fma(f_set1(a), b, c); }
inline F f_max(F a, F b) { return _mm512_max_ps(a, b); }
inline F f_min(F a, F b) { return _mm512_min_ps(a, b); }
inline F f_abs(F a) { return _mm512_abs_ps(a); }
inline F f_round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F f_scale2(F a, F n) { return _mm512_scalef_ps(a, n); }  // a * 2^n
inline float f_sum(F a) { return _mm512_reduce_add_ps(a); }
inline float f_maximum(F a) { return _mm512_reduce_max_ps(a); }
inline F f_from_half(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline F f_from_i8(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void f_to_half(uint16_t* p, F a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#if defined(FETTLE_ISA_avx512_bf16)
inline void f_to_bfloat(uint16_t* p, F a) {
  __m256bh b = _mm512_cvtneps_pbh(a);
  std::memcpy(p, &b, 32);
}
#else
inline void f_to_bfloat(uint16_t* p, F a) {  // to the nearest, ties to even; finite numbers
  const __m512i bits = _mm512_castps_si512(a), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}
#endif
inline I i_zero() { return _mm512_setzero_si512(); }
inline I i_set1(int32_t x) { return _mm512_set1_epi32(x); }
inline F i_to_f(I a) { return _mm512_cvtepi32_ps(a); }
inline void f_to_i8(int8_t* p, F a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a))); }
inline B b_load(const void* p) { return _mm512_loadu_si512(p); }
inline void b_store(void* p, B a) { _mm512_storeu_si512(p, a); }
inline B b_low(B a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
inline B b_high(B a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15)); }
inline B b_flip(B a) { return _mm512_xor_si512(a, _mm512_set1_epi8(char(0x80))); }
inline B b_or(B a, B b) { return _mm512_or_si512(a, b); }
// Bits moved up by Left (down when negative), then masked in each byte; what crosses a byte must be masked away.
template <int Left, int Mask>
inline B b_shift_mask(B a) {
  if constexpr (Left > 0) a = _mm512_slli_epi16(a, Left);
  if constexpr (Left < 0) a = _mm512_srli_epi16(a, -Left);
  return _mm512_and_si512(a, _mm512_set1_epi8(Mask));
}
// Table of 16 bytes, repeated to fill a register; codes < 16.
inline B b_table(const uint8_t* table) { return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))); }
inline B b_lookup(B table, B codes) { return _mm512_shuffle_epi8(table, codes); }
// Integer dot products: sum[lane] += over 4 bytes of codes[lane] * x, the same 4 signed bytes for every lane: those `At` four of x.
// `Bits`: codes are < 2^Bits. `Step` counts the additions since dot_begin, `Steps` is how many there were: 4 or 8. The sum's bits plus
// `start` (the same at both ends) are what dot_end reads as floats.
template <int Bits>
using Factor = B;
template <int Bits>
using DotSum = I;
template <int Bits>
inline B factor(B codes) {
  return codes;
}
inline X x_load(const int8_t* p) { return p; }
template <int Bits>
inline I dot_begin(int32_t start) {
  return _mm512_set1_epi32(start);
}
template <int Bits, int Step, int Steps, int At>
inline void dot_add(I& sum, B codes, X x) {
  sum = _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(four<At>(x)));
}
template <int Bits, int Steps>
inline F dot_end(I sum, int32_t) {
  return _mm512_castsi512_ps(sum);
}
// (sum - start) * scale of a sum whose start was 1.5 * 2^23; offset: -1.5 * 2^23 * scale, exactly.
inline F dot_scaled(F sum, float scale, float offset) { return f_fma(sum, f_set1(scale), f_set1(offset)); }
// acc[lane] += sum over the 2 bf16 of lane's dword at w * x. Where a machine multiplies bf16 pairs (kBf16Parts 1), x is a pair of them;
// else (2) x is two floats and each half of w is widened and multiplied alone.
constexpr int kPairRows = 12;
#if defined(FETTLE_ISA_avx512_bf16)
constexpr int kBf16Parts = 1;
using Pair = uint32_t;
template <int Part>
inline B bf16_load(const uint32_t* w) {
  return b_load(w);
}
template <int Part>
inline F bf16_step(F acc, B w, Pair x) {
  __m512i all = _mm512_set1_epi32(int32_t(x));
#if defined(__clang__)
  asm("" : "+v"(all));  // clang 16 crashes when it folds the broadcast into the product
#endif
  return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)all);
}
#else
template <int Part>
inline F bf16_load(const uint32_t* w) {
  const B b = b_load(w);
  return _mm512_castsi512_ps(Part == 0 ? _mm512_slli_epi32(b, 16) : _mm512_and_si512(b, _mm512_set1_epi32(int32_t(0xffff0000))));
}
#endif
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
inline void prefetch_far(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }  // into the second-level cache

}  // namespace fettle::FETTLE_KERNELS::simd
