// What K formats share: the 6-bit factors of Q4_K and Q5_K, and the 2-bit planes of Q2_K and Q3_K.
#pragma once
#include "format/codec.h"
#include "format/super_block.h"

namespace fettle {

// Head of a Q4_K or Q5_K block: half d, half dmin, then 8 factors and 8 min factors of 6 bits in 12 bytes: the first four of each whole in
// the low bits of bytes 0-3 and 4-7, the last four as nibbles in bytes 8-11 with their upper two bits above those of the first four.
inline void read_k_scales(const uint8_t* b, float* scales, float* mins) {
  const float d = read_half(b), m = read_half(b + 2);
  const uint8_t* q = b + 4;
  for (int j = 0; j < 4; j++) {
    scales[j] = d * float(q[j] & 63);
    mins[j] = -(m * float(q[j + 4] & 63));
    scales[j + 4] = d * float((q[j + 8] & 15) | q[j] >> 6 << 4);
    mins[j + 4] = -(m * float(q[j + 8] >> 4 | q[j + 4] >> 6 << 4));
  }
}

inline void write_k_scales(const AffineSuper& s, uint8_t* b) {
  write_u16(b, s.scale);
  write_u16(b + 2, s.min);
  uint8_t* q = b + 4;
  for (int j = 0; j < 4; j++) {
    q[j] = uint8_t(s.factors[j] | s.factors[j + 4] >> 4 << 6);
    q[j + 4] = uint8_t(s.min_factors[j] | s.min_factors[j + 4] >> 4 << 6);
    q[j + 8] = uint8_t((s.factors[j + 4] & 15) | (s.min_factors[j + 4] & 15) << 4);
  }
}

// 256 two-bit codes in 64 bytes: byte l of each 32 holds weights l, l + 32, l + 64, l + 96 of its 128.
inline void split_pairs(const uint8_t* bytes, uint8_t* codes) {
  for (int half = 0; half < 2; half++)
    for (int run = 0; run < 4; run++)
      for (int l = 0; l < 32; l++) codes[half * 128 + run * 32 + l] = bytes[half * 32 + l] >> run * 2 & 3;
}
inline void join_pairs(const uint8_t* codes, uint8_t* bytes) {
  for (int half = 0; half < 2; half++)
    for (int l = 0; l < 32; l++) {
      const uint8_t* c = codes + half * 128 + l;
      bytes[half * 32 + l] = uint8_t((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
    }
}

}  // namespace fettle
