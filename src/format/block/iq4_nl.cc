// IQ4_NL: 32 weights, one half scale d, 4-bit codes into 16 values that are dense near zero, as weights are: d * value(code).
// Block: d; 16 bytes of nibbles (weight j low, j + 16 high).
#include "format/codec.h"
#include "format/iq4_values.h"

namespace fettle {
namespace {

struct IQ4_NL {
  static constexpr int kBlock = 32, kBytes = 18, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq4Values;
  static void codes(const uint8_t* b, uint8_t* codes) { split_nibbles<16>(b + 2, codes); }
  static void put_codes(const uint8_t* codes, uint8_t* b) { join_nibbles<16>(codes, b + 2); }
  static void scales(const uint8_t* b, float* scales, float*) { scales[0] = read_half(b); }

  static void encode(Sample& s, uint8_t* b) {
    float values[kBlock];
    uint8_t codes[kBlock];
    write_u16(b, encode_scaled(s, iq4_levels(), values));
    for (int j = 0; j < kBlock; j++) codes[j] = iq4_code(values[j]);
    put_codes(codes, b);
  }
};

}  // namespace

extern const Format format_iq4_nl = {.name = "IQ4_NL",
                                     .gguf_id = 20,
                                     .file_type = 25,
                                     .block = IQ4_NL::kBlock,
                                     .block_bytes = IQ4_NL::kBytes,
                                     .group = IQ4_NL::kGroup,
                                     .codes = 16,
                                     .zero = IQ4_NL::kBias,
                                     .table = kIq4Values,
                                     .scale_at = 0,
                                     .min_at = -1,
                                     .decode = decode_table_blocks<IQ4_NL>,
                                     .encode = encode_blocks<IQ4_NL>,
                                     .unpack = unpack_blocks<IQ4_NL>,
                                     .recode = recode_blocks<IQ4_NL>};

}  // namespace fettle
