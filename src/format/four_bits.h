// Formats of bitsandbytes in 4 bits: 32 weights under one f32 scale, codes into 16 floats that are no whole numbers: scale * value(code).
// Block: the scale; 16 bytes of nibbles (weight j low, j + 16 high). Read into memory from folders that hold such weights (store/packed.h);
// GGUF has none of them. Kernels multiply whole numbers: T::kTable, the values kUnits times as large and rounded, plus 128.
#pragma once
#include "format/codec.h"

namespace fettle {

template <class T>
struct FourBits {
  static constexpr int kBlock = 32, kBytes = 20, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) { split_nibbles<16>(b + 4, codes); }
  static void put_codes(const uint8_t* codes, uint8_t* b) { join_nibbles<16>(codes, b + 4); }
  static void scales(const uint8_t* b, float* scales, float*) { scales[0] = read_f32(b) / T::kUnits; }

  static void decode(const void* blocks, float* weights, int64_t n) noexcept {
    auto b = static_cast<const uint8_t*>(blocks);
    for (int64_t i = 0; i < n; i += kBlock, b += kBytes, weights += kBlock) {
      uint8_t c[kBlock];
      float values[16];
      codes(b, c);
      for (int k = 0; k < 16; k++) values[k] = read_f32(b) * T::kValues[k];
      for (int j = 0; j < kBlock; j++) weights[j] = values[c[j]];
    }
  }
};

template <class T>
constexpr Format four_bits_format(const char* name) {
  return {.name = name,
          .gguf_id = -1,
          .file_type = -1,
          .block = T::kBlock,
          .block_bytes = T::kBytes,
          .group = T::kGroup,
          .codes = 16,
          .zero = T::kBias,
          .table = T::kTable,
          .scale_at = -1,
          .min_at = -1,
          .rounded_table = true,
          .decode = T::decode,
          .encode = nullptr,
          .unpack = unpack_blocks<T>,
          .recode = recode_blocks<T>};
}

}  // namespace fettle
