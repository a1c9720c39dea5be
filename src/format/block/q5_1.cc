// Q5_1: 32 weights, half scale d and half min m, 5-bit codes: d * code + m. Block: d; m; u32 of fifth bits (bit j belongs to weight j);
// 16 bytes of nibbles (weight j low, j + 16 high).
#include "format/codec.h"

namespace fettle {
namespace {

struct Q5_1 {
  [[maybe_unused]] static constexpr int kBlock = 32, kBytes = 24, kGroup = 32, kBias = 0;
  static constexpr bool kAffine = true;
  static void codes(const uint8_t* b, uint8_t* codes) {
    split_nibbles<16>(b + 8, codes);
    add_fifth_bits(b + 4, codes);
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    take_fifth_bits(codes, b + 4);
    join_nibbles<16>(codes, b + 8);
  }
  static void scales(const uint8_t* b, float* scales, float* mins) {
    scales[0] = read_half(b);
    mins[0] = read_half(b + 2);
  }

  static void encode(Sample& s, uint8_t* b) {
    uint16_t d, m;
    uint8_t codes[kBlock];
    encode_affine(s, 31, &d, &m, codes);
    write_u16(b, d);
    write_u16(b + 2, m);
    put_codes(codes, b);
  }
};

}  // namespace

extern const Format format_q5_1 = {.name = "Q5_1",
                                   .gguf_id = 7,
                                   .file_type = 9,
                                   .block = Q5_1::kBlock,
                                   .block_bytes = Q5_1::kBytes,
                                   .group = Q5_1::kGroup,
                                   .codes = 32,
                                   .zero = -1,
                                   .table = nullptr,
                                   .scale_at = 0,
                                   .min_at = 2,
                                   .decode = decode_blocks<Q5_1>,
                                   .encode = encode_blocks<Q5_1>,
                                   .unpack = unpack_blocks<Q5_1>,
                                   .recode = recode_blocks<Q5_1>};

}  // namespace fettle
