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
constexpr int kRows = 6, kPanels = 1;  // 12 accumulator registers
constexpr int kIntRows = 3, kIntPanels = 1;
constexpr int kStreamRows = 2;  // integer products straight from packed codes

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
// maddubs saturates at 16 bits, so bytes of 128 and more are split off: u = (u & 127) + 128 * (u >> 7); both halves are safe.
inline __m256i dot_half(__m256i acc, __m256i u, __m256i x) {
  __m256i low = _mm256_and_si256(u, _mm256_set1_epi8(127));
  __m256i top = _mm256_and_si256(_mm256_srli_epi16(u, 7), _mm256_set1_epi8(1));
  __m256i ones = _mm256_set1_epi16(1);
  __m256i s = _mm256_madd_epi16(_mm256_maddubs_epi16(low, x), ones);
  __m256i t = _mm256_madd_epi16(_mm256_maddubs_epi16(top, x), ones);
  return _mm256_add_epi32(acc, _mm256_add_epi32(s, _mm256_slli_epi32(t, 7)));
}
inline I dot_u8s8(I acc, B codes, int32_t x4) {
  __m256i x = _mm256_set1_epi32(x4);
  return {dot_half(acc.a, codes.a, x), dot_half(acc.b, codes.b, x)};
}
inline __m256 bf16_half(__m256 acc, __m256i w, uint32_t x2) {
  __m256 lo = _mm256_castsi256_ps(_mm256_slli_epi32(w, 16)),
         hi = _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32(int32_t(0xffff0000))));
  acc = _mm256_fmadd_ps(lo, _mm256_castsi256_ps(_mm256_set1_epi32(int32_t(x2 << 16))), acc);
  return _mm256_fmadd_ps(hi, _mm256_castsi256_ps(_mm256_set1_epi32(int32_t(x2 & 0xffff0000))), acc);
}
inline F dot_bf16(F acc, B w, uint32_t x2) { return {bf16_half(acc.a, w.a, x2), bf16_half(acc.b, w.b, x2)}; }
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace fettle::kernels_avx2::simd
