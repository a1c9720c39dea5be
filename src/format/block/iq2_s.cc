// IQ2_S: 256 weights, a half scale d; per 16 a four-bit factor and two rows of eight magnitudes: d * (1/2 + factor) / 4 * (8, 25 or 43).
// Block: d; 32 bytes (the rows' lower 8 bits); 32 bytes of signs, one a row; 8 bytes of the rows' upper two bits, four rows a byte; 8 bytes
// of factors, the lower half of a byte first.
#include "format/codebook_rows.h"

namespace fettle {
namespace {

struct IQ2_S {
  static constexpr int kBlock = 256, kBytes = 82, kGroup = 16, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq2Values;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 32; i++) {
      const int row = b[2 + i] | (b[66 + i / 4] >> i % 4 * 2 & 3) << 8;
      put_eight(kIq2SRows[row], b[34 + i], codes + 8 * i);
    }
  }
  static void scales(const uint8_t* b, float* scales, float*) { scales_of_16(read_half(b), b + 74, scales); }
};

}  // namespace

extern const Format format_iq2_s = {.name = "IQ2_S",
                                    .gguf_id = 22,
                                    .file_type = 28,
                                    .block = IQ2_S::kBlock,
                                    .block_bytes = IQ2_S::kBytes,
                                    .group = IQ2_S::kGroup,
                                    .codes = 6,
                                    .zero = IQ2_S::kBias,
                                    .table = IQ2_S::kTable,
                                    .scale_at = 0,
                                    .min_at = -1,
                                    .scale_parts = 8,
                                    .decode = decode_table_blocks<IQ2_S>,
                                    .encode = nullptr,
                                    .unpack = unpack_blocks<IQ2_S>,
                                    .recode = nullptr};

}  // namespace fettle
