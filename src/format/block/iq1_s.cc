// IQ1_S: 256 weights, a half scale d; per 32 a three-bit factor, four rows of eight trits, and whether an eighth is added to these or taken
// away: d * (1 + 2 factor) * (trit +- 1/8).
// Block: d; 32 bytes (the rows' lower 8 bits); 8 u16 (the upper three bits of the four rows, the factor, and a bit set to take away).
#include "format/codebook_rows.h"

namespace fettle {
namespace {

struct IQ1_S {
  static constexpr int kBlock = 256, kBytes = 50, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq1Values;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 32; i++) {
      const int upper = read_u16(b + 34 + i / 4 * 2), row = b[2 + i] | (upper >> i % 4 * 3 & 7) << 8;
      put_trits(kIq1Rows[row], upper >> 15, codes + 8 * i);
    }
  }
  static void scales(const uint8_t* b, float* scales, float*) {  // of values times eight, which is exact
    const float d = read_half(b);
    for (int g = 0; g < 8; g++) scales[g] = d * float(1 + 2 * (read_u16(b + 34 + 2 * g) >> 12 & 7)) * 0.125f;
  }
};

}  // namespace

extern const Format format_iq1_s = {.name = "IQ1_S",
                                    .gguf_id = 19,
                                    .file_type = 24,
                                    .block = IQ1_S::kBlock,
                                    .block_bytes = IQ1_S::kBytes,
                                    .group = IQ1_S::kGroup,
                                    .codes = 6,
                                    .zero = IQ1_S::kBias,
                                    .table = IQ1_S::kTable,
                                    .scale_at = 0,
                                    .min_at = -1,
                                    .scale_parts = 8,
                                    .decode = decode_table_blocks<IQ1_S>,
                                    .encode = nullptr,
                                    .unpack = unpack_blocks<IQ1_S>,
                                    .recode = nullptr};

}  // namespace fettle
