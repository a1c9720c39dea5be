// IQ2_XS: 256 weights, a half scale d; per 16 a four-bit factor and two rows of eight magnitudes: d * (1/2 + factor) / 4 * (8, 25 or 43).
// Block: d; 32 u16 (the row in 9 bits, seven signs above it); 8 bytes of factors, the lower half of a byte first.
#include "format/codebook_rows.h"

namespace fettle {
namespace {

struct IQ2_XS {
  static constexpr int kBlock = 256, kBytes = 74, kGroup = 16, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq2Values;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 32; i++) {
      const uint32_t q = read_u16(b + 2 + 2 * i);
      put_eight(kIq2XsRows[q & 511], eight_signs(q >> 9), codes + 8 * i);
    }
  }
  static void scales(const uint8_t* b, float* scales, float*) { scales_of_16(read_half(b), b + 66, scales); }
};

}  // namespace

extern const Format format_iq2_xs = {.name = "IQ2_XS",
                                     .gguf_id = 17,
                                     .file_type = 20,
                                     .block = IQ2_XS::kBlock,
                                     .block_bytes = IQ2_XS::kBytes,
                                     .group = IQ2_XS::kGroup,
                                     .codes = 6,
                                     .zero = IQ2_XS::kBias,
                                     .table = IQ2_XS::kTable,
                                     .scale_at = 0,
                                     .min_at = -1,
                                     .scale_parts = 8,
                                     .decode = decode_table_blocks<IQ2_XS>,
                                     .encode = nullptr,
                                     .unpack = unpack_blocks<IQ2_XS>,
                                     .recode = nullptr};

}  // namespace fettle
