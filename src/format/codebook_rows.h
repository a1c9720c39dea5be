// What the IQ1, IQ2 and IQ3 formats share: an index names a row of a codebook (codebooks.h), which says the magnitudes of eight or four
// weights at once. Unpacked, each weight still is one of at most 16 values, so that the kernels of IQ4_NL multiply them. These formats are
// read, not written: any codes do not make a row, and a search for rows that do is another project.
#pragma once
#include <bit>

#include "format/codebooks.h"
#include "format/codec.h"

namespace fettle {

// The values of codes 2 m and 2 m + 1, plus 128: magnitude m and its negative. IQ1's values are eight times a trit -1, 0, 1 with an eighth
// added (codes 0, 1, 2) or taken away (3, 4, 5).
inline constexpr uint8_t kIq1Values[16] = {121, 129, 137, 119, 127, 135};
inline constexpr uint8_t kIq2Values[16] = {136, 120, 153, 103, 171, 85};
inline constexpr uint8_t kIq3XxsValues[16] = {132, 124, 140, 116, 148, 108, 156, 100, 164, 92, 172, 84, 180, 76, 190, 66};
inline constexpr uint8_t kIq3SValues[16] = {129, 127, 131, 125, 133, 123, 135, 121, 137, 119, 139, 117, 141, 115, 143, 113};

// Bit j of `signs` is set where weight j is negative.
inline void put_eight(uint16_t row, int signs, uint8_t* codes) {
  for (int j = 0; j < 8; j++) codes[j] = uint8_t((row >> 2 * j & 3) * 2 + (signs >> j & 1));
}
inline void put_four(uint16_t row, int signs, uint8_t* codes) {
  for (int j = 0; j < 4; j++) codes[j] = uint8_t((row >> 3 * j & 7) * 2 + (signs >> j & 1));
}
inline void put_trits(uint16_t row, bool lower, uint8_t* codes) {
  for (int j = 0; j < 8; j++) codes[j] = uint8_t((row >> 2 * j & 3) + (lower ? 3 : 0));
}

// Seven stored signs of eight: the number of negative weights is even.
inline int eight_signs(uint32_t seven) {
  const uint32_t s = seven & 127;
  return int(s | uint32_t(std::popcount(s) & 1) << 7);
}

// Four-bit factors, the lower half of a byte first: d * (1/2 + factor) / 4, as IQ2_XS and IQ2_S scale groups of 16.
inline void scales_of_16(float d, const uint8_t* factors, float* scales) {
  for (int g = 0; g < 16; g++) scales[g] = d * (0.5f + float(factors[g / 2] >> g % 2 * 4 & 15)) * 0.25f;
}

}  // namespace fettle
