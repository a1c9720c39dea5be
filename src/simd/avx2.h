// AVX2 + FMA + F16C: two registers make one value of the vocabulary.
#pragma once
#include <immintrin.h>

namespace fettle::kernels_avx2::simd {

struct F {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};
struct B {
  __m256i a, b;
};
using X = const int8_t*;
constexpr int kRows = 6, kPanels = 1;  // 12 accumulator registers
constexpr int kIntPanels = 1;
template <int Bits>
constexpr int kIntRows = Bits == 8 ? 4 : 6;  // sums of 16 bits in 8 or 12 registers
constexpr int kStreamRows = 4;
constexpr bool kSignedBytes = true;  // factor<8>() takes signed bytes

inline void pin(F& x) { asm volatile("" : "+x"(x.a), "+x"(x.b)); }
inline void pin(I& x) { asm volatile("" : "+x"(x.a), "+x"(x.b)); }
inline void pin(B& x) { asm volatile("" : "+x"(x.a), "+x"(x.b)); }

inline F f_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F f_set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F f_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void f_store(float* p, F x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
inline F f_load_n(const float* p, int n) {
  float t[16] = {};
  std::memcpy(t, p, size_t(n) * 4);
  return f_load(t);
}
inline void f_store_n(float* p, F x, int n) {
  float t[16];
  f_store(t, x);
  std::memcpy(p, t, size_t(n) * 4);
}
inline F f_add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F f_sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline F f_mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F f_div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F f_fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline F f_fma1(float x, F y, F z) { return f_fma(f_set1(x), y, z); }
inline F f_max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline F f_min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline F f_abs(F x) {
  __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m)};
}
inline F f_round(F x) {
  return {_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline __m256 scale2(__m256 a, __m256 n) {
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23)));
}
inline F f_scale2(F x, F n) { return {scale2(x.a, n.a), scale2(x.b, n.b)}; }
inline float f_sum(F x) {
  __m256 s = _mm256_add_ps(x.a, x.b);
  __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_add_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}
inline float f_maximum(F x) {
  __m256 s = _mm256_max_ps(x.a, x.b);
  __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_max_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_shuffle_ps(t, t, 1)));
}
inline F f_from_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline F f_from_i8(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
inline void f_to_half(uint16_t* p, F x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void f_to_bfloat(uint16_t* p, F x) {
  uint32_t t[16];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(t), _mm256_castps_si256(x.a));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(t + 8), _mm256_castps_si256(x.b));
  for (int i = 0; i < 16; i++) p[i] = uint16_t((t[i] + 0x7fff + (t[i] >> 16 & 1)) >> 16);
}
inline I i_zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline I i_set1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline F i_to_f(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline void f_to_i8(int8_t* p, F x) {
  __m256i i = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));  // lanes: a0-3 b0-3 | a4-7 b4-7
  i = _mm256_permute4x64_epi64(i, 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1)));
}
inline B b_load(const void* p) {
  const __m256i* q = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
inline void b_store(void* p, B x) {
  __m256i* q = static_cast<__m256i*>(p);
  _mm256_storeu_si256(q, x.a), _mm256_storeu_si256(q + 1, x.b);
}
inline B b_low(B x) {
  __m256i m = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
inline B b_high(B x) {
  __m256i m = _mm256_set1_epi8(15);
  return {_mm256_and_si256(_mm256_srli_epi16(x.a, 4), m), _mm256_and_si256(_mm256_srli_epi16(x.b, 4), m)};
}
inline B b_flip(B x) {  // the top bit of every byte: unsigned with 128 for zero <-> signed
  const __m256i top = _mm256_set1_epi8(char(0x80));
  return {_mm256_xor_si256(x.a, top), _mm256_xor_si256(x.b, top)};
}
inline B b_or(B x, B y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
template <int Left, int Mask>
inline B b_shift_mask(B x) {
  if constexpr (Left > 0) x = {_mm256_slli_epi16(x.a, Left), _mm256_slli_epi16(x.b, Left)};
  if constexpr (Left < 0) x = {_mm256_srli_epi16(x.a, -Left), _mm256_srli_epi16(x.b, -Left)};
  __m256i m = _mm256_set1_epi8(Mask);
  return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
inline B b_table(const uint8_t* table) {
  __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {t, t};
}
inline B b_lookup(B table, B codes) { return {_mm256_shuffle_epi8(table.a, codes.a), _mm256_shuffle_epi8(table.b, codes.b)}; }
// Products of unsigned codes below 2^Bits with signed bytes, two and two added in 16 bits (maddubs saturates there): so many steps fit
// before they must be widened. Bytes of a full 8 bits are signed instead, |w| * sign(w) x, and widened at once.
template <int Bits>
constexpr int kFit = Bits <= 4   ? 8
                     : Bits == 5 ? 4
                     : Bits == 6 ? 2
                                 : 1;
template <int Bits>
struct Factor {
  B codes;
};
template <>
struct Factor<8> {
  B sign, magnitude;
};
template <int Bits>
struct DotSum {
  I narrow, wide;
};
template <int Bits>
inline void pin(DotSum<Bits>& sum) {
  pin(sum.narrow);
}
template <int Bits>
inline Factor<Bits> factor(B codes) {
  if constexpr (Bits == 8) {
    return {codes, {_mm256_abs_epi8(codes.a), _mm256_abs_epi8(codes.b)}};
  } else {
    return {codes};
  }
}
inline X x_load(const int8_t* p) { return p; }
template <int Bits>
inline DotSum<Bits> dot_begin(int32_t) {
  return {i_zero(), i_zero()};
}
template <int Fit, int Step, int Steps>
inline void dot_half(__m256i& narrow, __m256i& wide, __m256i products) {
  narrow = Step % Fit == 0 ? products : _mm256_add_epi16(narrow, products);
  asm("" : "+x"(narrow));  // here and now: the compiler would gather all products first and run out of registers
  if constexpr (Fit < Steps && Step % Fit == Fit - 1) {
    const __m256i pairs = _mm256_madd_epi16(narrow, _mm256_set1_epi16(1));
    wide = Step < Fit ? pairs : _mm256_add_epi32(wide, pairs);
  }
}
template <int Bits, int Step, int Steps, int At>
inline void dot_add(DotSum<Bits>& sum, const Factor<Bits>& w, X from) {
  const __m256i x = _mm256_set1_epi32(four<At>(from));
  if constexpr (Bits == 8) {
    dot_half<1, Step, Steps>(sum.narrow.a, sum.wide.a, _mm256_maddubs_epi16(w.magnitude.a, _mm256_sign_epi8(x, w.sign.a)));
    dot_half<1, Step, Steps>(sum.narrow.b, sum.wide.b, _mm256_maddubs_epi16(w.magnitude.b, _mm256_sign_epi8(x, w.sign.b)));
  } else {
    dot_half<kFit<Bits>, Step, Steps>(sum.narrow.a, sum.wide.a, _mm256_maddubs_epi16(w.codes.a, x));
    dot_half<kFit<Bits>, Step, Steps>(sum.narrow.b, sum.wide.b, _mm256_maddubs_epi16(w.codes.b, x));
  }
}
template <int Bits, int Steps>
inline F dot_end(const DotSum<Bits>& sum, int32_t start) {
  const __m256i from = _mm256_set1_epi32(start), ones = _mm256_set1_epi16(1);
  I total = sum.wide;
  if constexpr (Steps <= kFit<Bits>) total = {_mm256_madd_epi16(sum.narrow.a, ones), _mm256_madd_epi16(sum.narrow.b, ones)};
  return {_mm256_castsi256_ps(_mm256_add_epi32(total.a, from)), _mm256_castsi256_ps(_mm256_add_epi32(total.b, from))};
}
inline F dot_scaled(F sum, float scale, float offset) { return f_fma(sum, f_set1(scale), f_set1(offset)); }
constexpr int kPairRows = 6;
template <int Part>
inline F bf16_load(const uint32_t* w) {
  const B b = b_load(w);
  if constexpr (Part == 0) return {_mm256_castsi256_ps(_mm256_slli_epi32(b.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b.b, 16))};
  const __m256i upper = _mm256_set1_epi32(int32_t(0xffff0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(b.a, upper)), _mm256_castsi256_ps(_mm256_and_si256(b.b, upper))};
}
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
inline void prefetch_far(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }  // into the second-level cache

}  // namespace fettle::kernels_avx2::simd
