// Q6_K: 256 weights in 16 groups of 16 with signed byte factors of a half scale d: d * factor * (code - 32).
// Block: 128 bytes of lower nibbles (in each 128 weights, weight j low, j + 64 high); 64 bytes of the upper two bits (byte l of each 32
// holds weights l, l + 32, l + 64, l + 96 of its 128); 16 factors; d.
#include "format/codec.h"
#include "format/k_scales.h"

namespace fettle {
namespace {

struct Q6_K {
  static constexpr int kBlock = 256, kBytes = 210, kGroup = 16, kBias = 32;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) {
    uint8_t upper[kBlock];
    split_nibbles<64>(b, codes);
    split_nibbles<64>(b + 64, codes + 128);
    split_pairs(b + 128, upper);
    for (int j = 0; j < kBlock; j++) codes[j] |= uint8_t(upper[j] << 4);
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    uint8_t upper[kBlock];
    for (int j = 0; j < kBlock; j++) upper[j] = codes[j] >> 4;
    join_nibbles<64>(codes, b);
    join_nibbles<64>(codes + 128, b + 64);
    join_pairs(upper, b + 128);
  }
  static void scales(const uint8_t* b, float* scales, float*) {
    const float d = read_half(b + 208);
    for (int g = 0; g < 16; g++) scales[g] = d * float(int8_t(b[192 + g]));
  }

  static void encode(Sample& s, uint8_t* b) {
    const ScaledSuper found = encode_super_scaled(s, kGroup, {-32, 31}, -128, 127);
    uint8_t codes[kBlock];
    for (int j = 0; j < kBlock; j++) codes[j] = uint8_t(int(found.levels[j]) + kBias);
    put_codes(codes, b);
    for (int g = 0; g < 16; g++) b[192 + g] = uint8_t(found.factors[g]);
    write_u16(b + 208, found.scale);
  }
};

}  // namespace

extern const Format format_q6_k = {.name = "Q6_K",
                                   .gguf_id = 14,
                                   .file_type = 18,
                                   .block = Q6_K::kBlock,
                                   .block_bytes = Q6_K::kBytes,
                                   .group = Q6_K::kGroup,
                                   .codes = 64,
                                   .zero = Q6_K::kBias,
                                   .table = nullptr,
                                   .scale_at = 208,
                                   .min_at = -1,
                                   .scale_parts = 1,
                                   .decode = decode_blocks<Q6_K>,
                                   .encode = encode_blocks<Q6_K>,
                                   .unpack = unpack_blocks<Q6_K>,
                                   .recode = recode_blocks<Q6_K>};

}  // namespace fettle
