// Q3_K: 256 weights in 16 groups of 16 with signed 6-bit factors of a half scale d: d * factor * (code - 4).
// Block: 32 bytes of third bits (byte l, bit r belongs to weight 32 r + l); 64 bytes of the lower two (k_scales.h); 12 bytes of factors +
// 32 (low nibbles of 0-7, of 8-15 above them; then byte 8 + i has the upper two bits of i, i + 4, i + 8, i + 12); d.
#include "format/codec.h"
#include "format/k_scales.h"

namespace fettle {
namespace {

struct Q3_K {
  static constexpr int kBlock = 256, kBytes = 110, kGroup = 16, kBias = 4;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) {
    split_pairs(b + 32, codes);
    for (int run = 0; run < 8; run++)
      for (int l = 0; l < 32; l++) codes[32 * run + l] |= (b[l] >> run & 1) << 2;
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    std::memset(b, 0, 32);
    for (int j = 0; j < kBlock; j++) b[j % 32] |= uint8_t(codes[j] >> 2 << j / 32);
    join_pairs(codes, b + 32);
  }
  static void scales(const uint8_t* b, float* scales, float*) {
    const float d = read_half(b + 108);
    const uint8_t* q = b + 96;
    for (int g = 0; g < 16; g++) {
      const int low = g < 8 ? q[g] & 15 : q[g - 8] >> 4, high = q[8 + g % 4] >> g / 4 * 2 & 3;
      scales[g] = d * float((low | high << 4) - 32);
    }
  }

  static void encode(Sample& s, uint8_t* b) {
    const ScaledSuper found = encode_super_scaled(s, kGroup, {-4, 3}, -32, 31);
    uint8_t codes[kBlock];
    for (int j = 0; j < kBlock; j++) codes[j] = uint8_t(int(found.levels[j]) + kBias);
    put_codes(codes, b);
    uint8_t* q = b + 96;
    for (int g = 0; g < 16; g++) {
      const int factor = found.factors[g] + 32;
      q[g % 8] |= uint8_t((factor & 15) << g / 8 * 4);
      q[8 + g % 4] |= uint8_t(factor >> 4 << g / 4 * 2);
    }
    write_u16(b + 108, found.scale);
  }
};

}  // namespace

extern const Format format_q3_k = {.name = "Q3_K",
                                   .gguf_id = 11,
                                   .file_type = 11,
                                   .block = Q3_K::kBlock,
                                   .block_bytes = Q3_K::kBytes,
                                   .group = Q3_K::kGroup,
                                   .codes = 8,
                                   .zero = Q3_K::kBias,
                                   .table = nullptr,
                                   .scale_at = 108,
                                   .min_at = -1,
                                   .scale_parts = 1,
                                   .decode = decode_blocks<Q3_K>,
                                   .encode = encode_blocks<Q3_K>,
                                   .unpack = unpack_blocks<Q3_K>,
                                   .recode = recode_blocks<Q3_K>};

}  // namespace fettle
