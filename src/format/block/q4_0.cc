// Q4_0: 32 weights, one half scale d, 4-bit codes: d * (code - 8). Block: d; 16 bytes of nibbles (weight j low, j + 16 high).
#include "format/codec.h"

namespace fettle {
namespace {

struct Q4_0 {
  static constexpr int kBlock = 32, kBytes = 18, kGroup = 32, kBias = 8;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) { split_nibbles<16>(b + 2, codes); }
  static void put_codes(const uint8_t* codes, uint8_t* b) { join_nibbles<16>(codes, b + 2); }
  static void scales(const uint8_t* b, float* scales, float*) { scales[0] = read_half(b); }

  static void encode(Sample& s, uint8_t* b) {
    float values[kBlock];
    uint8_t codes[kBlock];
    write_u16(b, encode_scaled(s, {-8, 7}, values));
    for (int j = 0; j < kBlock; j++) codes[j] = uint8_t(int(values[j]) + kBias);
    put_codes(codes, b);
  }
};

}  // namespace

extern const Format format_q4_0 = {.name = "Q4_0",
                                   .gguf_id = 2,
                                   .file_type = 2,
                                   .block = Q4_0::kBlock,
                                   .block_bytes = Q4_0::kBytes,
                                   .group = Q4_0::kGroup,
                                   .codes = 16,
                                   .zero = Q4_0::kBias,
                                   .table = nullptr,
                                   .scale_at = 0,
                                   .min_at = -1,
                                   .decode = decode_blocks<Q4_0>,
                                   .encode = encode_blocks<Q4_0>,
                                   .unpack = unpack_blocks<Q4_0>,
                                   .recode = recode_blocks<Q4_0>};

}  // namespace fettle
