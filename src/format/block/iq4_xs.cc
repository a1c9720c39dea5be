// IQ4_XS: IQ4_NL's values in 256 weights, 8 groups of 32 with signed 6-bit factors of a half scale d: d * factor * value(code).
// Block: d; u16 of the factors' upper two bits (factors + 32); 4 bytes of their lower nibbles; 128 bytes of nibbles (weight j of a group
// low, j + 16 high).
#include "format/codec.h"
#include "format/iq4_values.h"
#include "format/super_block.h"

namespace fettle {
namespace {

struct IQ4_XS {
  static constexpr int kBlock = 256, kBytes = 136, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq4Values;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int g = 0; g < 8; g++) split_nibbles<16>(b + 8 + 16 * g, codes + 32 * g);
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    for (int g = 0; g < 8; g++) join_nibbles<16>(codes + 32 * g, b + 8 + 16 * g);
  }
  static void scales(const uint8_t* b, float* scales, float*) {
    const float d = read_half(b);
    const int upper = read_u16(b + 2);
    for (int g = 0; g < 8; g++) scales[g] = d * float(((b[4 + g / 2] >> g % 2 * 4 & 15) | (upper >> 2 * g & 3) << 4) - 32);
  }

  static void encode(Sample& s, uint8_t* b) {
    const ScaledSuper found = encode_super_scaled(s, kGroup, iq4_levels(), -32, 31);
    uint8_t codes[kBlock];
    int upper = 0;
    for (int g = 0; g < 8; g++) {
      const int factor = found.factors[g] + 32;
      upper |= factor >> 4 << 2 * g;
      b[4 + g / 2] |= uint8_t((factor & 15) << g % 2 * 4);
      for (int j = 32 * g; j < 32 * g + 32; j++) codes[j] = iq4_code(found.levels[j]);
    }
    put_codes(codes, b);
    write_u16(b, found.scale);
    write_u16(b + 2, uint16_t(upper));
  }
};

}  // namespace

extern const Format format_iq4_xs = {.name = "IQ4_XS",
                                     .gguf_id = 23,
                                     .file_type = 30,
                                     .block = IQ4_XS::kBlock,
                                     .block_bytes = IQ4_XS::kBytes,
                                     .group = IQ4_XS::kGroup,
                                     .codes = 16,
                                     .zero = IQ4_XS::kBias,
                                     .table = kIq4Values,
                                     .scale_at = 0,
                                     .min_at = -1,
                                     .scale_parts = 1,
                                     .decode = decode_table_blocks<IQ4_XS>,
                                     .encode = encode_blocks<IQ4_XS>,
                                     .unpack = unpack_blocks<IQ4_XS>,
                                     .recode = recode_blocks<IQ4_XS>};

}  // namespace fettle
