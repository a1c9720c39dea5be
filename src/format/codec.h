// What all block formats share. A format describes its block in a small struct T (where codes and scales lie); the loops are written once:
//   kBlock kBytes kGroup        weights and bytes per block, weights per scale
//   kBias                       value = code - kBias (symmetric formats); unused when kAffine
//   kAffine                     value = code, and scales() writes mins as well
//   codes(block, codes)         kBlock codes in weight order
//   put_codes(codes, block)     the inverse; nothing else in the block changes
//   scales(block, scales, mins) kBlock / kGroup of them; mins only when kAffine
// Decoding keeps the reference's order of operations, bit for bit: scale * (code - bias), or scale * code + min.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#include "format/format.h"
#include "format/search.h"

namespace fettle {

inline uint16_t read_u16(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }
inline uint32_t read_u32(const uint8_t* p) { return p[0] | p[1] << 8 | p[2] << 16 | uint32_t(p[3]) << 24; }
inline float read_half(const uint8_t* p) { return float_from_half(read_u16(p)); }
inline float read_f32(const uint8_t* p) { return std::bit_cast<float>(read_u32(p)); }
inline void write_u16(uint8_t* p, uint16_t v) {
  p[0] = uint8_t(v);
  p[1] = uint8_t(v >> 8);
}
inline void write_u32(uint8_t* p, uint32_t v) {
  write_u16(p, uint16_t(v));
  write_u16(p + 2, uint16_t(v >> 16));
}

// Byte j holds weight j in its low nibble and weight j + n in its high one.
template <int n>
inline void split_nibbles(const uint8_t* bytes, uint8_t* codes) {
  for (int j = 0; j < n; j++) codes[j] = bytes[j] & 15;
  for (int j = 0; j < n; j++) codes[j + n] = bytes[j] >> 4;
}
template <int n>
inline void join_nibbles(const uint8_t* codes, uint8_t* bytes) {
  for (int j = 0; j < n; j++) bytes[j] = uint8_t((codes[j] & 15) | codes[j + n] << 4);
}

// Bit j of a little-endian u32 is the fifth bit of code j.
inline void add_fifth_bits(const uint8_t* bits, uint8_t* codes) {
  for (int j = 0; j < 32; j++) codes[j] |= (bits[j / 8] >> j % 8 & 1) << 4;
}
inline void take_fifth_bits(const uint8_t* codes, uint8_t* bits) {
  uint32_t u = 0;
  for (int j = 0; j < 32; j++) u |= uint32_t(codes[j] >> 4 & 1) << j;
  write_u32(bits, u);
}

template <class T>
void decode_blocks(const void* blocks, float* weights, int64_t n) noexcept {
  auto b = static_cast<const uint8_t*>(blocks);
  for (int64_t i = 0; i < n; i += T::kBlock, b += T::kBytes, weights += T::kBlock) {
    uint8_t codes[T::kBlock];
    float scales[T::kBlock / T::kGroup], mins[T::kBlock / T::kGroup];
    T::codes(b, codes);
    T::scales(b, scales, mins);
    for (int g = 0; g < T::kBlock / T::kGroup; g++) {
      const uint8_t* c = codes + g * T::kGroup;
      float* w = weights + g * T::kGroup;
      const float s = scales[g];
      if constexpr (T::kAffine) {
        const float m = mins[g];
        for (int j = 0; j < T::kGroup; j++) w[j] = s * float(int(c[j])) + m;
      } else {
        for (int j = 0; j < T::kGroup; j++) w[j] = s * float(int(c[j]) - T::kBias);
      }
    }
  }
}

// The same where codes are indices into 16 values (T::kTable, biased by kBias).
template <class T>
void decode_table_blocks(const void* blocks, float* weights, int64_t n) noexcept {
  auto b = static_cast<const uint8_t*>(blocks);
  for (int64_t i = 0; i < n; i += T::kBlock, b += T::kBytes, weights += T::kBlock) {
    uint8_t codes[T::kBlock];
    float scales[T::kBlock / T::kGroup], values[16];
    T::codes(b, codes);
    T::scales(b, scales, nullptr);
    for (int g = 0; g < T::kBlock / T::kGroup; g++) {
      for (int k = 0; k < 16; k++) values[k] = scales[g] * float(int(T::kTable[k]) - T::kBias);
      for (int j = g * T::kGroup; j < (g + 1) * T::kGroup; j++) weights[j] = values[codes[j]];
    }
  }
}

template <class T>
void unpack_blocks(const void* blocks, int64_t n, uint8_t* codes, float* scales, float* mins) noexcept {
  auto b = static_cast<const uint8_t*>(blocks);
  constexpr int groups = T::kBlock / T::kGroup;
  for (int64_t i = 0; i < n; i += T::kBlock, b += T::kBytes, codes += T::kBlock, scales += groups, mins += groups) {
    T::codes(b, codes);
    T::scales(b, scales, mins);
    if constexpr (!T::kAffine)
      for (int g = 0; g < groups; g++) mins[g] = scales[g] * float(-T::kBias);
  }
}

template <class T>
void recode_blocks(void* blocks, int64_t n, const uint8_t* codes) noexcept {
  auto b = static_cast<uint8_t*>(blocks);
  for (int64_t i = 0; i < n; i += T::kBlock, b += T::kBytes, codes += T::kBlock) T::put_codes(codes, b);
}

// T::encode(sample, block) fills a block whose weights are not all zero. A block of zero bytes decodes to zeros or, where codes are biased,
// has a zero scale: zeros as well.
template <class T>
void encode_blocks(const float* weights, void* blocks, int64_t n, const float* importance) noexcept {
  auto b = static_cast<uint8_t*>(blocks);
  for (int64_t i = 0; i < n; i += T::kBlock, b += T::kBytes) {
    Sample sample;
    std::memset(b, 0, T::kBytes);
    if (sample.load(weights + i, importance ? importance + i : nullptr, T::kBlock)) T::encode(sample, b);
  }
}

}  // namespace fettle
