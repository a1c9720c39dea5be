// IQ1_M: 256 weights, a half scale d; per 16 a three-bit factor, per eight a row of trits and whether an eighth is added to these or taken
// away: d * (1 + 2 factor) * (trit +- 1/8).
// Block: 32 bytes (the rows' lower 8 bits); 16 bytes, a half for each row (its upper three bits and a bit set to take away); 4 u16, each
// with four factors and four bits of d above them, the lowest first.
#include "format/codebook_rows.h"

namespace fettle {
namespace {

struct IQ1_M {
  static constexpr int kBlock = 256, kBytes = 56, kGroup = 16, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq1Values;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 32; i++) {
      const int upper = b[32 + i / 2] >> i % 2 * 4;
      put_trits(kIq1Rows[b[i] | (upper & 7) << 8], upper & 8, codes + 8 * i);
    }
  }
  static void scales(const uint8_t* b, float* scales, float*) {  // of values times eight, which is exact
    uint32_t half = 0;
    for (int i = 0; i < 4; i++) half |= uint32_t(read_u16(b + 48 + 2 * i) >> 12) << 4 * i;
    const float d = float_from_half(uint16_t(half));
    for (int g = 0; g < 16; g++) scales[g] = d * float(1 + 2 * (read_u16(b + 48 + g / 4 * 2) >> g % 4 * 3 & 7)) * 0.125f;
  }
};

}  // namespace

extern const Format format_iq1_m = {.name = "IQ1_M",
                                    .gguf_id = 29,
                                    .file_type = 31,
                                    .block = IQ1_M::kBlock,
                                    .block_bytes = IQ1_M::kBytes,
                                    .group = IQ1_M::kGroup,
                                    .codes = 6,
                                    .zero = IQ1_M::kBias,
                                    .table = IQ1_M::kTable,
                                    .scale_at = -1,
                                    .min_at = -1,
                                    .decode = decode_table_blocks<IQ1_M>,
                                    .encode = nullptr,
                                    .unpack = unpack_blocks<IQ1_M>,
                                    .recode = nullptr};

}  // namespace fettle
