// Choosing codes and scales for a block of weights: minimise sum_j w_j (x_j - decoded_j)^2, w_j = importance_j * sqrt(sigma^2 + x_j^2).
// A scale is searched over a grid; at each point codes are the nearest levels and the best scale for these codes is a closed-form weighted
// least-squares solution; the winner is refined by alternating the two (Lloyd). Source: the scale search of llama.cpp's k-quants and its
// importance matrix (Kawrakow), here with refinement and with the final 16-bit rounding of scales inside the loop.
// All arithmetic is plain f32 in a fixed order: the same blocks on every machine, whatever the number of threads.
#pragma once
#include <cstdint>

namespace fettle {

// What codes can stand for: the integers lo..hi, or 16 ascending values.
struct Levels {
  float lo, hi;
  const struct NearestLevel* table = nullptr;
};

// Nearest of 16 values in [-128, 127], by a lookup of the argument rounded down to halves.
struct NearestLevel {
  explicit NearestLevel(const uint8_t* biased_values);  // value + 128, ascending
  float value[512];
};

// A block's weights divided by a power of two `unit` (so that the largest lies in [1, 2)), and the error weights.
struct Sample {
  static constexpr int kMax = 256;
  int n;
  float unit, inverse_unit;
  alignas(64) float x[kMax], w[kMax];

  // False when every weight is (nearly) zero: the block of zeros represents it. n <= 256, a multiple of 16. NaN counts as 0.
  bool load(const float* weights, const float* importance, int n);
  // The scale (in units) that a 16-bit float can hold, nearest to `scale` and finite.
  uint16_t half_of(float scale) const;
  float value_of(uint16_t half) const;
};

// The next 16-bit float of larger (step 1) or smaller (-1) magnitude; the same one at the ends.
uint16_t half_step(uint16_t half, int step);

// The weighted squared error when x[n] is coded with `scale` and nearest levels.
float scale_error(const float* x, const float* w, int n, const Levels& levels, float scale);
// The scale that minimises it. May be negative (levels need not be symmetric); 0 when x is all zeros.
float find_scale(const float* x, const float* w, int n, const Levels& levels);

// x ~ scale * code + min, code in 0..top.
struct Affine {
  float scale, min;
};
float affine_error(const float* x, const float* w, int n, float top, Affine a);
// `keep_min_negative`: min <= 0, as the K formats store it; scale >= 0 in any case.
Affine find_affine(const float* x, const float* w, int n, float top, bool keep_min_negative);

// Nearest levels as numbers (not codes), for the caller to pack.
void nearest_levels(const float* x, int n, const Levels& levels, float scale, float* values);
void nearest_codes(const float* x, int n, float top, Affine a, uint8_t* codes);

// A whole block of a format with one 16-bit scale: returns the scale and writes codes[n] = level - levels.lo.
uint16_t encode_scaled(Sample& s, const Levels& levels, float* values);
// With scale and min.
void encode_affine(Sample& s, float top, uint16_t* scale, uint16_t* min, uint8_t* codes);

}  // namespace fettle
