// IQ3_XXS: 256 weights, a half scale d; per 32 a four-bit factor and eight rows of four magnitudes: d * (1/2 + factor) / 2 * (4 to 62).
// Block: d; 64 bytes (the rows); per 32, a u32 (seven signs of every eight weights, 7 bits each, then the factor).
#include "format/codebook_rows.h"

namespace fettle {
namespace {

struct IQ3_XXS {
  static constexpr int kBlock = 256, kBytes = 98, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kIq3XxsValues;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 32; i++) {
      const int signs = eight_signs(read_u32(b + 66 + i / 4 * 4) >> i % 4 * 7);
      put_four(kIq3XxsRows[b[2 + 2 * i]], signs, codes + 8 * i);
      put_four(kIq3XxsRows[b[3 + 2 * i]], signs >> 4, codes + 8 * i + 4);
    }
  }
  static void scales(const uint8_t* b, float* scales, float*) {
    const float d = read_half(b);
    for (int g = 0; g < 8; g++) scales[g] = d * (0.5f + float(read_u32(b + 66 + 4 * g) >> 28)) * 0.5f;
  }
};

}  // namespace

extern const Format format_iq3_xxs = {.name = "IQ3_XXS",
                                      .gguf_id = 18,
                                      .file_type = 23,
                                      .block = IQ3_XXS::kBlock,
                                      .block_bytes = IQ3_XXS::kBytes,
                                      .group = IQ3_XXS::kGroup,
                                      .codes = 16,
                                      .zero = IQ3_XXS::kBias,
                                      .table = IQ3_XXS::kTable,
                                      .scale_at = 0,
                                      .min_at = -1,
                                      .scale_parts = 4,
                                      .decode = decode_table_blocks<IQ3_XXS>,
                                      .encode = nullptr,
                                      .unpack = unpack_blocks<IQ3_XXS>,
                                      .recode = nullptr};

}  // namespace fettle
