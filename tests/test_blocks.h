// Blocks for tests, in formats that fettle reads and does not write too. For tests only.
#pragma once
#include <cmath>
#include <cstring>
#include <vector>

#include "base/base.h"
#include "format/format.h"

namespace fettle {

// The scale of a block of a format without an encoder; IQ1_M hides it in the upper four bits of four u16, those that only memory has begin
// with it.
inline void put_test_scale(const Format& f, uint8_t* block, float scale) {
  const uint16_t half = half_from_float(scale);
  if (f.gguf_id < 0) return void(std::memcpy(block, &scale, 4));
  if (f.scale_at >= 0) return void(std::memcpy(block + f.scale_at, &half, 2));
  for (int i = 0; i < 4; i++) block[49 + 2 * i] = uint8_t((block[49 + 2 * i] & 15) | (half >> 4 * i & 15) << 4);
}

// n weights as blocks. Without an encoder: random blocks, each of the size that its weights have.
inline std::vector<std::byte> test_blocks(const Format& f, const float* weights, int64_t n, uint64_t seed) {
  std::vector<std::byte> bytes(size_t(f.bytes_for(n)));
  if (f.encode) {
    f.encode(weights, bytes.data(), n, nullptr);
    return bytes;
  }
  Random random(seed);
  std::vector<float> decoded(size_t(f.block));
  uint8_t* block = reinterpret_cast<uint8_t*>(bytes.data());
  for (int64_t i = 0; i < n; i += f.block, block += f.block_bytes) {
    for (int j = 0; j < f.block_bytes; j++) block[j] = uint8_t(random.below(256));
    put_test_scale(f, block, 1);
    f.decode(block, decoded.data(), f.block);
    double wanted = 0, found = 0;
    for (int j = 0; j < f.block; j++) wanted += std::pow(double(weights[i + j]), 2), found += std::pow(double(decoded[size_t(j)]), 2);
    put_test_scale(f, block, float(std::sqrt(wanted / found)));
  }
  return bytes;
}

}  // namespace fettle
