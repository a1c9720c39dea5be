// f32 <-> IEEE half and bfloat16, inline for the loops of this room: selects instead of branches, and right even where the processor was
// told to flush denormals (no denormal f32 is ever an operand).
#pragma once
#include <bit>
#include <cstdint>

namespace fettle {

inline float half_value(uint16_t h) {
  uint32_t magnitude = uint32_t(h & 0x7fff) << 13, sign = uint32_t(h & 0x8000) << 16;
  uint32_t normal = magnitude + (112u << 23);
  // a denormal half is mantissa * 2^-24: give it the exponent of 2^-14 and take the implied one away again
  uint32_t denormal = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude + (113u << 23)) - 0x1p-14f);
  uint32_t special = magnitude + (224u << 23);
  uint32_t bits = magnitude < (1u << 23) ? denormal : normal;
  bits = magnitude >= (31u << 23) ? special : bits;
  return std::bit_cast<float>(bits | sign);
}

inline uint16_t half_bits(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  uint32_t normal = (magnitude + 0xc8000fffu + (magnitude >> 13 & 1)) >> 13;
  // adding 1/2 shifts the mantissa to the place of a denormal half's, rounding to even on the way
  uint32_t denormal = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t special = magnitude > 0x7f800000u ? 0x7e00 : 0x7c00;
  uint32_t h = magnitude < 0x38800000u ? denormal : normal;
  h = magnitude >= 0x47800000u ? special : h;
  return uint16_t(h | sign);
}

inline uint16_t bfloat_bits(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x);
  uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return uint16_t((bits & 0x7fffffff) > 0x7f800000u ? (bits >> 16 | 64) : rounded);
}

}  // namespace fettle
