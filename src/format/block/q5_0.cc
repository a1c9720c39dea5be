// Q5_0: 32 weights, one half scale d, 5-bit codes: d * (code - 16). Block: d; u32 of fifth bits (bit j belongs to weight j); 16 bytes of
// nibbles (weight j low, j + 16 high).
#include "format/codec.h"

namespace fettle {
namespace {

struct Q5_0 {
  static constexpr int kBlock = 32, kBytes = 22, kGroup = 32, kBias = 16;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) {
    split_nibbles<16>(b + 6, codes);
    add_fifth_bits(b + 2, codes);
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    take_fifth_bits(codes, b + 2);
    join_nibbles<16>(codes, b + 6);
  }
  static void scales(const uint8_t* b, float* scales, float*) { scales[0] = read_half(b); }

  static void encode(Sample& s, uint8_t* b) {
    float values[kBlock];
    uint8_t codes[kBlock];
    write_u16(b, encode_scaled(s, {-16, 15}, values));
    for (int j = 0; j < kBlock; j++) codes[j] = uint8_t(int(values[j]) + kBias);
    put_codes(codes, b);
  }
};

}  // namespace

extern const Format format_q5_0 = {.name = "Q5_0",
                                   .gguf_id = 6,
                                   .file_type = 8,
                                   .block = Q5_0::kBlock,
                                   .block_bytes = Q5_0::kBytes,
                                   .group = Q5_0::kGroup,
                                   .codes = 32,
                                   .zero = Q5_0::kBias,
                                   .table = nullptr,
                                   .scale_at = 0,
                                   .min_at = -1,
                                   .decode = decode_blocks<Q5_0>,
                                   .encode = encode_blocks<Q5_0>,
                                   .unpack = unpack_blocks<Q5_0>,
                                   .recode = recode_blocks<Q5_0>};

}  // namespace fettle
