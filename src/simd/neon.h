// NEON with dot products (ARMv8.2): four registers make one value of the vocabulary. Compiled twice: neon_i8mm (ARMv8.6) has products of
// bf16 pairs besides, and of small matrices of bytes.
#pragma once
#include <arm_neon.h>

namespace fettle::FETTLE_KERNELS::simd {

struct F {
  float32x4_t a, b, c, d;
};
struct I {
  int32x4_t a, b, c, d;
};
struct B {
  uint8x16_t a, b, c, d;
};
using X = int8x16_t;
constexpr int kRows = 5, kPanels = 1;  // 20 accumulator registers
constexpr int kIntPanels = 1;
template <int Bits>
constexpr int kIntRows = 2;     // an integer and a float accumulator each: 16 registers
constexpr int kStreamRows = 2;  // the same
constexpr int kPairRows = kRows;
constexpr bool kSignedBytes = true;  // codes are multiplied as signed bytes; shorter ones are that anyway

// fn of every register of the arguments.
template <class To, class Fn, class... From>
[[gnu::always_inline]] inline To each(Fn fn, const From&... x) {
  return {fn(x.a...), fn(x.b...), fn(x.c...), fn(x.d...)};
}

template <class T>
inline void pin(T& x) {
  asm volatile("" : "+w"(x.a), "+w"(x.b), "+w"(x.c), "+w"(x.d));
}

inline F f_set1(float x) {
  const float32x4_t all = vdupq_n_f32(x);
  return {all, all, all, all};
}
inline F f_zero() { return f_set1(0); }
inline F f_load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
inline void f_store(float* p, F x) { vst1q_f32(p, x.a), vst1q_f32(p + 4, x.b), vst1q_f32(p + 8, x.c), vst1q_f32(p + 12, x.d); }
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
inline F f_add(F x, F y) { return each<F>(vaddq_f32, x, y); }
inline F f_sub(F x, F y) { return each<F>(vsubq_f32, x, y); }
inline F f_mul(F x, F y) { return each<F>(vmulq_f32, x, y); }
inline F f_div(F x, F y) { return each<F>(vdivq_f32, x, y); }
inline F f_fma(F x, F y, F z) { return each<F>(vfmaq_f32, z, x, y); }
// A number for products by element: from a register, as a load that fills all lanes would take a vector unit's time.
inline float element(float x) {
  asm("" : "+w"(x));
  return x;
}
inline F f_fma1(float x, F y, F z) {
  const float all = element(x);
  return each<F>([=](float32x4_t from, float32x4_t sum) { return vfmaq_n_f32(sum, from, all); }, y, z);
}
inline F f_max(F x, F y) { return each<F>(vmaxnmq_f32, x, y); }  // of a number and none, the number
inline F f_min(F x, F y) { return each<F>(vminnmq_f32, x, y); }
inline F f_abs(F x) { return each<F>(vabsq_f32, x); }
inline F f_round(F x) { return each<F>(vrndnq_f32, x); }
inline F f_scale2(F x, F n) {
  return each<F>(
      [](float32x4_t v, float32x4_t e) {
        return vmulq_f32(v, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(e), vdupq_n_s32(127)), 23)));
      },
      x, n);
}
inline float f_sum(F x) { return vaddvq_f32(vaddq_f32(vaddq_f32(x.a, x.b), vaddq_f32(x.c, x.d))); }
inline float f_maximum(F x) { return vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(x.a, x.b), vmaxnmq_f32(x.c, x.d))); }
inline F f_from_half(const uint16_t* p) {
  const float16x8_t low = vreinterpretq_f16_u16(vld1q_u16(p)), high = vreinterpretq_f16_u16(vld1q_u16(p + 8));
  return {vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low), vcvt_f32_f16(vget_low_f16(high)), vcvt_high_f32_f16(high)};
}
inline F f_from_i8(const int8_t* p) {
  const int8x16_t bytes = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)), vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
          vcvtq_f32_s32(vmovl_high_s16(high))};
}
inline void f_to_half(uint16_t* p, F x) {
  vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b)));
  vst1q_u16(p + 8, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d)));
}
#if defined(FETTLE_ISA_neon_i8mm)
inline uint16x8_t bfloats(float32x4_t low, float32x4_t high) {
  return vreinterpretq_u16_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(low), high));
}
#else
inline uint16x4_t bfloats(float32x4_t x) {  // to the nearest, ties to even; finite numbers
  const uint32x4_t bits = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  return vaddhn_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
}
inline uint16x8_t bfloats(float32x4_t low, float32x4_t high) { return vcombine_u16(bfloats(low), bfloats(high)); }
#endif
inline void f_to_bfloat(uint16_t* p, F x) { vst1q_u16(p, bfloats(x.a, x.b)), vst1q_u16(p + 8, bfloats(x.c, x.d)); }
inline I i_set1(int32_t x) {
  const int32x4_t all = vdupq_n_s32(x);
  return {all, all, all, all};
}
inline I i_zero() { return i_set1(0); }
inline F i_to_f(I x) { return each<F>(vcvtq_f32_s32, x); }
inline void f_to_i8(int8_t* p, F x) {
  const I i = each<I>(vcvtnq_s32_f32, x);
  const int16x8_t low = vqmovn_high_s32(vqmovn_s32(i.a), i.b), high = vqmovn_high_s32(vqmovn_s32(i.c), i.d);
  vst1q_s8(p, vqmovn_high_s16(vqmovn_s16(low), high));
}
inline B b_load(const void* p) {
  const uint8_t* q = static_cast<const uint8_t*>(p);
  return {vld1q_u8(q), vld1q_u8(q + 16), vld1q_u8(q + 32), vld1q_u8(q + 48)};
}
inline void b_store(void* p, B x) {
  uint8_t* q = static_cast<uint8_t*>(p);
  vst1q_u8(q, x.a), vst1q_u8(q + 16, x.b), vst1q_u8(q + 32, x.c), vst1q_u8(q + 48, x.d);
}
inline B b_low(B x) {
  return each<B>([](uint8x16_t v) { return vandq_u8(v, vdupq_n_u8(15)); }, x);
}
inline B b_high(B x) {
  return each<B>([](uint8x16_t v) { return vshrq_n_u8(v, 4); }, x);
}
inline B b_flip(B x) {
  return each<B>([](uint8x16_t v) { return veorq_u8(v, vdupq_n_u8(0x80)); }, x);
}
inline B b_or(B x, B y) { return each<B>(vorrq_u8, x, y); }
template <int Left, int Mask>
inline B b_shift_mask(B x) {
  return each<B>(
      [](uint8x16_t v) {
        if constexpr (Left > 0) v = vshlq_n_u8(v, Left);
        if constexpr (Left < 0) v = vshrq_n_u8(v, -Left);
        return vandq_u8(v, vdupq_n_u8(Mask));
      },
      x);
}
inline B b_table(const uint8_t* table) {
  const uint8x16_t t = vld1q_u8(table);
  return {t, t, t, t};
}
inline B b_lookup(B table, B codes) {
  return each<B>([=](uint8x16_t v) { return vqtbl1q_u8(table.a, v); }, codes);
}
inline X x_load(const int8_t* p) { return vld1q_s8(p); }
template <int Bits>
using Factor = B;
template <int Bits>
using DotSum = I;
template <int Bits>
inline B factor(B codes) {
  return codes;
}
template <int Bits>
inline I dot_begin(int32_t start) {
  return i_set1(start);
}
template <int Bits, int Step, int Steps, int At>
inline void dot_add(I& sum, B codes, X x) {
  sum = each<I>([=](int32x4_t s, uint8x16_t w) { return vdotq_laneq_s32(s, vreinterpretq_s8_u8(w), x, At); }, sum, codes);
}
template <int Bits, int Steps>
inline F dot_end(I sum, int32_t) {
  return each<F>(vreinterpretq_f32_s32, sum);
}
// What a fused product with the offset gives, bit by bit: the difference is exact. No register needs to be filled with the offset first.
inline F dot_scaled(F sum, float scale, float) {
  const float all = element(scale);
  return each<F>([=](float32x4_t s) { return vmulq_n_f32(vsubq_f32(s, vdupq_n_f32(12582912.0f)), all); }, sum);
}
#if defined(FETTLE_ISA_neon_i8mm)
// Two rows at once: one instruction multiplies 8 inputs of both by 8 codes of two lanes, twice what a dot product does. A register of sums
// holds two lanes of both rows; to take them apart costs less than what was won (by instructions counted: 84 where dot products need 104).
constexpr int kUnitRows = 2;
template <int Bits>
struct UnitSum {
  I low, high;  // lanes 0 to 7, 8 to 15
};
template <int Bits>
inline void pin(UnitSum<Bits>& sum) {
  pin(sum.low), pin(sum.high);
}
struct UnitX {
  int8x16_t first, second;  // 8 inputs of both rows, the next 8
};
inline UnitX unit_x(const int8_t* a, const int8_t* b) {
  const int64x2_t x = vreinterpretq_s64_s8(vld1q_s8(a)), y = vreinterpretq_s64_s8(vld1q_s8(b));
  return {vreinterpretq_s8_s64(vzip1q_s64(x, y)), vreinterpretq_s8_s64(vzip2q_s64(x, y))};
}
// 8 codes of lanes 0 to 7, then of the others.
inline void unit_codes(uint8_t* out, B even, B odd) {
  const auto put = [&](int at, uint8x16_t x, uint8x16_t y) {
    const uint32x4_t p = vreinterpretq_u32_u8(x), q = vreinterpretq_u32_u8(y);
    vst1q_u8(out + at, vreinterpretq_u8_u32(vzip1q_u32(p, q)));
    vst1q_u8(out + at + 16, vreinterpretq_u8_u32(vzip2q_u32(p, q)));
  };
  put(0, even.a, odd.a), put(32, even.b, odd.b), put(64, even.c, odd.c), put(96, even.d, odd.d);
}
template <int Bits>
inline UnitSum<Bits> unit_begin(int32_t a, int32_t b) {
  const int32x4_t both = vcombine_s32(vdup_n_s32(a), vdup_n_s32(b));
  return {{both, both, both, both}, {both, both, both, both}};
}
template <int Bits, int Step, int Steps>
inline void unit_add(UnitSum<Bits>& sum, B codes, UnitX x) {
  const int8x16_t rows = Step % 4 < 2 ? x.first : x.second;
  I& half = Step % 2 == 0 ? sum.low : sum.high;
  half = each<I>([=](int32x4_t s, uint8x16_t w) { return vmmlaq_s32(s, rows, vreinterpretq_s8_u8(w)); }, half, codes);
}
template <int Bits, int Steps, int Row>
inline F unit_end(const UnitSum<Bits>& sum, int32_t) {
  const auto row = [](int32x4_t p, int32x4_t q) {
    const int64x2_t x = vreinterpretq_s64_s32(p), y = vreinterpretq_s64_s32(q);
    return vreinterpretq_f32_s64(Row == 0 ? vzip1q_s64(x, y) : vzip2q_s64(x, y));
  };
  return {row(sum.low.a, sum.low.b), row(sum.low.c, sum.low.d), row(sum.high.a, sum.high.b), row(sum.high.c, sum.high.d)};
}
constexpr int kBf16Parts = 1;
using Pair = uint32_t;
template <int Part>
inline B bf16_load(const uint32_t* w) {
  return b_load(w);
}
template <int Part>
inline F bf16_step(F acc, B w, Pair x) {
  float pair;
  std::memcpy(&pair, &x, 4);
  bfloat16x4_t first;
  asm("" : "=w"(first) : "0"(pair));
  return each<F>([=](float32x4_t s, uint8x16_t v) { return vbfdotq_lane_f32(s, vreinterpretq_bf16_u8(v), first, 0); }, acc, w);
}
#else
template <int Part>
inline F bf16_load(const uint32_t* w) {
  return each<F>(
      [](uint8x16_t v) {
        const uint32x4_t pairs = vreinterpretq_u32_u8(v);
        return vreinterpretq_f32_u32(Part == 0 ? vshlq_n_u32(pairs, 16) : vandq_u32(pairs, vdupq_n_u32(0xffff0000)));
      },
      b_load(w));
}
#endif
inline void prefetch(const void* p) { __builtin_prefetch(p); }
inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }  // into the second-level cache

}  // namespace fettle::FETTLE_KERNELS::simd
