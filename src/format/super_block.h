// Blocks of 256 weights whose groups (of 16 or 32) share one 16-bit scale, and one for mins, through small integer factors: the K formats
// and IQ4_XS. Each group's ideal scale is found alone (search.h); then the shared scale and all factors are fitted together: for a shared
// scale the best factor of each group is a short search around its ideal, for factors and codes the best shared scale is a closed form, and
// the two alternate, with the 16-bit rounding inside. Source: the super-blocks of llama.cpp's k-quants (Kawrakow); the joint fit is
// fettle's.
#pragma once
#include "format/search.h"

namespace fettle {

inline constexpr int kSuper = 256;

// weight = scale * factor[group] * level. Factors are lowest..highest.
struct ScaledSuper {
  uint16_t scale;
  int factors[kSuper / 16];
  float levels[kSuper];
};
ScaledSuper encode_super_scaled(const Sample& s, int group, const Levels& levels, int lowest, int highest);

// weight = scale * factor[group] * code - min * min_factor[group]; codes 0..top, factors 0..most.
struct AffineSuper {
  uint16_t scale, min;
  int factors[kSuper / 16], min_factors[kSuper / 16];
  uint8_t codes[kSuper];
};
AffineSuper encode_super_affine(const Sample& s, int group, float top, int most);

}  // namespace fettle
