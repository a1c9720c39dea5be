// Plain loops over 16 lanes: runs on any machine, and is what the other instruction sets are compared with.
#pragma once
#include <cmath>

namespace fettle::kernels_portable::simd {

struct F {
  float v[16];
};
struct I {
  int32_t v[16];
};
struct B {
  uint8_t v[64];
};
using X = const int8_t*;
constexpr int kRows = 4, kPanels = 1;
constexpr int kIntPanels = 1;
template <int Bits>
constexpr int kIntRows = 2;
constexpr int kStreamRows = 1;
constexpr bool kSignedBytes = false;

template <class T>
inline void pin(T& x) {
  asm volatile("" : "+m"(x));
}
template <class Fn>
inline F map(Fn fn) {
  F r;
  for (int i = 0; i < 16; i++) r.v[i] = fn(i);
  return r;
}
inline F f_set1(float x) {
  return map([=](int) { return x; });
}
inline F f_zero() { return f_set1(0); }
inline F f_load(const float* p) {
  F r;
  std::memcpy(&r, p, 64);
  return r;
}
inline void f_store(float* p, F x) { std::memcpy(p, &x, 64); }
inline F f_load_n(const float* p, int n) {
  F r = f_zero();
  std::memcpy(&r, p, size_t(n) * 4);
  return r;
}
inline void f_store_n(float* p, F x, int n) { std::memcpy(p, &x, size_t(n) * 4); }
inline F f_add(const F& a, const F& b) {
  return map([&](int i) { return a.v[i] + b.v[i]; });
}
inline F f_sub(const F& a, const F& b) {
  return map([&](int i) { return a.v[i] - b.v[i]; });
}
inline F f_mul(const F& a, const F& b) {
  return map([&](int i) { return a.v[i] * b.v[i]; });
}
inline F f_div(const F& a, const F& b) {
  return map([&](int i) { return a.v[i] / b.v[i]; });
}
inline F f_fma(const F& a, const F& b, const F& c) {
  return map([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline F f_fma1(float a, const F& b, const F& c) { return f_fma(f_set1(a), b, c); }
inline F f_max(const F& a, const F& b) {
  return map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline F f_min(const F& a, const F& b) {
  return map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline F f_abs(const F& a) {
  return map([&](int i) { return std::fabs(a.v[i]); });
}
inline F f_round(const F& a) {
  return map([&](int i) { return std::nearbyint(a.v[i]); });
}
inline F f_scale2(const F& a, const F& n) {
  return map([&](int i) { return std::ldexp(a.v[i], int(n.v[i])); });
}
inline float f_sum(const F& a) {
  float s = 0;
  for (float x : a.v) s += x;
  return s;
}
inline float f_maximum(const F& a) {
  float s = a.v[0];
  for (float x : a.v) s = x > s ? x : s;
  return s;
}
inline float bits_to_float(uint32_t b) {
  float f;
  std::memcpy(&f, &b, 4);
  return f;
}
inline uint32_t float_to_bits(float f) {
  uint32_t b;
  std::memcpy(&b, &f, 4);
  return b;
}
inline float half_value(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
  if (exponent == 31) return bits_to_float(sign | 0x7f800000 | mantissa << 13);
  if (exponent) return bits_to_float(sign | (exponent + 112) << 23 | mantissa << 13);
  float f = float(mantissa) * 0x1p-24f;
  return sign ? -f : f;
}
inline uint16_t half_code(float f) {
  uint32_t b = float_to_bits(f), sign = b >> 16 & 0x8000, a = b & 0x7fffffff;
  if (a > 0x7f800000) return uint16_t(sign | 0x7e00);
  if (a >= 0x477ff000) return uint16_t(sign | 0x7c00);
  if (a < 0x38800000) return uint16_t(sign | uint32_t(std::nearbyint(bits_to_float(a) * 0x1p24f)));
  return uint16_t(sign | (((a + 0xfff + (a >> 13 & 1)) >> 13) - (112 << 10)));
}
inline F f_from_half(const uint16_t* p) {
  return map([&](int i) { return half_value(p[i]); });
}
inline F f_from_i8(const int8_t* p) {
  return map([&](int i) { return float(p[i]); });
}
inline void f_to_half(uint16_t* p, const F& a) {
  for (int i = 0; i < 16; i++) p[i] = half_code(a.v[i]);
}
inline void f_to_bfloat(uint16_t* p, const F& a) {
  for (int i = 0; i < 16; i++) {
    uint32_t b = float_to_bits(a.v[i]);
    p[i] = uint16_t((b + 0x7fff + (b >> 16 & 1)) >> 16);
  }
}
inline I i_set1(int32_t x) {
  I r;
  for (int32_t& v : r.v) v = x;
  return r;
}
inline I i_zero() { return i_set1(0); }
inline F i_to_f(const I& a) {
  return map([&](int i) { return float(a.v[i]); });
}
inline void f_to_i8(int8_t* p, const F& a) {
  for (int i = 0; i < 16; i++) p[i] = int8_t(std::nearbyint(a.v[i]));
}
inline B b_load(const void* p) {
  B r;
  std::memcpy(&r, p, 64);
  return r;
}
inline void b_store(void* p, const B& a) { std::memcpy(p, &a, 64); }
inline B b_low(B a) {
  for (uint8_t& x : a.v) x &= 15;
  return a;
}
inline B b_high(B a) {
  for (uint8_t& x : a.v) x = uint8_t(x >> 4);
  return a;
}
inline B b_flip(B a) {
  for (uint8_t& x : a.v) x ^= 0x80;
  return a;
}
inline B b_or(B a, const B& b) {
  for (int i = 0; i < 64; i++) a.v[i] |= b.v[i];
  return a;
}
template <int Left, int Mask>
inline B b_shift_mask(B a) {
  for (uint8_t& x : a.v) x = uint8_t((Left > 0 ? x << (Left > 0 ? Left : 0) : x >> (Left < 0 ? -Left : 0)) & Mask);
  return a;
}
inline B b_table(const uint8_t* table) {
  B r;
  for (int i = 0; i < 64; i++) r.v[i] = table[i % 16];
  return r;
}
inline B b_lookup(const B& table, B codes) {
  for (uint8_t& x : codes.v) x = table.v[x];
  return codes;
}
template <int Bits>
using Factor = B;
template <int Bits>
using DotSum = I;
template <int Bits>
inline B factor(const B& codes) {
  return codes;
}
inline X x_load(const int8_t* p) { return p; }
template <int Bits>
inline I dot_begin(int32_t start) {
  return i_set1(start);
}
// A call of its own: unrolled into every kernel, these loops cost a minute of compiling.
[[gnu::noinline]] static void dot_four(I& sum, const B& codes, X x) {
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 4; j++) sum.v[i] += codes.v[4 * i + j] * x[j];
}
template <int Bits, int Step, int Steps, int At>
inline void dot_add(I& sum, const B& codes, X x) {
  dot_four(sum, codes, x + 4 * At);
}
template <int Bits, int Steps>
inline F dot_end(const I& sum, int32_t) {
  return map([&](int i) { return bits_to_float(uint32_t(sum.v[i])); });
}
// Without a fused multiply-add the product would be rounded.
inline F dot_scaled(const F& sum, float scale, float) { return f_mul(f_sub(sum, f_set1(12582912.0f)), f_set1(scale)); }
constexpr int kPairRows = 4;
template <int Part>
inline F bf16_load(const uint32_t* w) {
  return map([&](int i) { return bits_to_float(Part ? w[i] & 0xffff0000 : w[i] << 16); });
}
inline void prefetch(const void*) {}
inline void prefetch_far(const void*) {}

}  // namespace fettle::kernels_portable::simd
