// IQ3_S: 256 weights, a half scale d; per 32 a four-bit factor and eight rows of four magnitudes: d * (1 + 2 factor) * (1, 3, ... 15).
// Block: d; 64 bytes (the rows' lower 8 bits); 8 bytes of their ninth bits; 32 bytes of signs; 4 bytes of factors, the lower half of a byte
// first.
#include "format/codebook_rows.h"

namespace fettle {
namespace {

struct IQ3_S {
  static constexpr int kBlock = 256, kBytes = 110, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq3SValues;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 64; i++) {
      const int row = b[2 + i] | (b[66 + i / 8] >> i % 8 & 1) << 8;
      put_four(kIq3SRows[row], b[74 + i / 2] >> i % 2 * 4, codes + 4 * i);
    }
  }
  static void scales(const uint8_t* b, float* scales, float*) {
    const float d = read_half(b);
    for (int g = 0; g < 8; g++) scales[g] = d * float(1 + 2 * (b[106 + g / 2] >> g % 2 * 4 & 15));
  }
};

}  // namespace

extern const Format format_iq3_s = {.name = "IQ3_S",
                                    .gguf_id = 21,
                                    .file_type = 26,
                                    .block = IQ3_S::kBlock,
                                    .block_bytes = IQ3_S::kBytes,
                                    .group = IQ3_S::kGroup,
                                    .codes = 16,
                                    .zero = IQ3_S::kBias,
                                    .table = IQ3_S::kTable,
                                    .scale_at = 0,
                                    .min_at = -1,
                                    .scale_parts = 1,
                                    .decode = decode_table_blocks<IQ3_S>,
                                    .encode = nullptr,
                                    .unpack = unpack_blocks<IQ3_S>,
                                    .recode = nullptr};

}  // namespace fettle
