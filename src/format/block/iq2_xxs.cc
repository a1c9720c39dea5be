// IQ2_XXS: 256 weights, a half scale d; per 32 a four-bit factor and four rows of eight magnitudes: d * (1/2 + factor) / 4 * (8, 25 or 43).
// Block: d; per 32, four bytes (the rows) and a u32 (seven signs of each, 7 bits a row, then the factor).
#include "format/codebook_rows.h"

namespace fettle {
namespace {

struct IQ2_XXS {
  static constexpr int kBlock = 256, kBytes = 66, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq2Values;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 32; i++) {
      const uint8_t* group = b + 2 + i / 4 * 8;
      put_eight(kIq2XxsRows[group[i % 4]], eight_signs(read_u32(group + 4) >> i % 4 * 7), codes + 8 * i);
    }
  }
  static void scales(const uint8_t* b, float* scales, float*) {
    const float d = read_half(b);
    for (int g = 0; g < 8; g++) scales[g] = d * (0.5f + float(read_u32(b + 6 + 8 * g) >> 28)) * 0.25f;
  }
};

}  // namespace

extern const Format format_iq2_xxs = {.name = "IQ2_XXS",
                                      .gguf_id = 16,
                                      .file_type = 19,
                                      .block = IQ2_XXS::kBlock,
                                      .block_bytes = IQ2_XXS::kBytes,
                                      .group = IQ2_XXS::kGroup,
                                      .codes = 6,
                                      .zero = IQ2_XXS::kBias,
                                      .table = IQ2_XXS::kTable,
                                      .scale_at = 0,
                                      .min_at = -1,
                                      .scale_parts = 8,
                                      .decode = decode_table_blocks<IQ2_XXS>,
                                      .encode = nullptr,
                                      .unpack = unpack_blocks<IQ2_XXS>,
                                      .recode = nullptr};

}  // namespace fettle
