// Q8_0: 32 weights, one half scale d, signed bytes: d * q. Block: d; 32 bytes. unpack() shifts the bytes to unsigned codes, q + 128.
// Encoding keeps to -127..127: some readers negate codes in a byte.
#include "format/codec.h"

namespace fettle {
namespace {

struct Q8_0 {
  static constexpr int kBlock = 32, kBytes = 34, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int j = 0; j < kBlock; j++) codes[j] = b[2 + j] ^ 128;
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    for (int j = 0; j < kBlock; j++) b[2 + j] = codes[j] ^ 128;
  }
  static void scales(const uint8_t* b, float* scales, float*) { scales[0] = read_half(b); }

  static void encode(Sample& s, uint8_t* b) {
    float values[kBlock];
    uint8_t codes[kBlock];
    write_u16(b, encode_scaled(s, {-127, 127}, values));
    for (int j = 0; j < kBlock; j++) codes[j] = uint8_t(int(values[j]) + kBias);
    put_codes(codes, b);
  }
};

}  // namespace

extern const Format format_q8_0 = {.name = "Q8_0",
                                   .gguf_id = 8,
                                   .file_type = 7,
                                   .block = Q8_0::kBlock,
                                   .block_bytes = Q8_0::kBytes,
                                   .group = Q8_0::kGroup,
                                   .codes = 256,
                                   .zero = Q8_0::kBias,
                                   .table = nullptr,
                                   .scale_at = 0,
                                   .min_at = -1,
                                   .decode = decode_blocks<Q8_0>,
                                   .encode = encode_blocks<Q8_0>,
                                   .unpack = unpack_blocks<Q8_0>,
                                   .recode = recode_blocks<Q8_0>};

}  // namespace fettle
