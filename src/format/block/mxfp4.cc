// MXFP4 (OCP Microscaling Formats 1.0, 2023): 32 floats of a sign, two bits of exponent and one of mantissa, with a power of two as their
// scale: 2^(e - 128) * value(code), the values doubled so that they are integers. Block: e; 16 bytes of nibbles (weight j low, j + 16
// high).
#include <algorithm>
#include <cmath>

#include "format/codec.h"

namespace fettle {
namespace {

constexpr uint8_t kValues[16] = {128, 129, 130, 131, 132, 134, 136, 140, 128, 127, 126, 125, 124, 122, 120, 116};     // plus 128
constexpr uint8_t kAscending[16] = {116, 120, 122, 124, 125, 126, 127, 128, 128, 129, 130, 131, 132, 134, 136, 140};  // the same
constexpr int kExponents = 128, kMostExponent = 252;  // 12 * 2^(252 - 128) is the largest finite weight

uint8_t code_of(float value) {
  uint8_t code = 0;
  while (int(kValues[code]) - 128 < int(std::fabs(value))) code++;
  return uint8_t(code | (value < 0 ? 8 : 0));
}

struct MXFP4 {
  static constexpr int kBlock = 32, kBytes = 17, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static constexpr const uint8_t* kTable = kValues;
  static void codes(const uint8_t* b, uint8_t* codes) { split_nibbles<16>(b + 1, codes); }
  static void put_codes(const uint8_t* codes, uint8_t* b) { join_nibbles<16>(codes, b + 1); }
  static void scales(const uint8_t* b, float* scales, float*) { scales[0] = std::ldexp(1.0f, b[0] - kExponents); }

  // The largest weight lies in [unit, 2 unit) and the largest value is 12: four powers of two are worth trying.
  static void encode(Sample& s, uint8_t* b) {
    static const NearestLevel nearest(kAscending);
    static const Levels levels{-12, 12, &nearest};
    const int unit = std::ilogb(s.unit);
    float best = INFINITY, scale = 0;
    for (int power = -2; power >= -5; power--) {
      const int e = std::min(unit + power + kExponents, kMostExponent);
      const float of_units = std::ldexp(1.0f, e - kExponents - unit), error = scale_error(s.x, s.w, kBlock, levels, of_units);
      if (error < best) best = error, scale = of_units, b[0] = uint8_t(e);
    }
    float values[kBlock];
    uint8_t codes[kBlock];
    nearest_levels(s.x, kBlock, levels, scale, values);
    for (int j = 0; j < kBlock; j++) codes[j] = code_of(values[j]);
    put_codes(codes, b);
  }
};

}  // namespace

extern const Format format_mxfp4 = {.name = "MXFP4",
                                    .gguf_id = 39,
                                    .file_type = 38,
                                    .block = MXFP4::kBlock,
                                    .block_bytes = MXFP4::kBytes,
                                    .group = MXFP4::kGroup,
                                    .codes = 16,
                                    .zero = MXFP4::kBias,
                                    .table = MXFP4::kTable,
                                    .scale_at = -1,
                                    .min_at = -1,
                                    .by_name = true,
                                    .decode = decode_table_blocks<MXFP4>,
                                    .encode = encode_blocks<MXFP4>,
                                    .unpack = unpack_blocks<MXFP4>,
                                    .recode = recode_blocks<MXFP4>};

}  // namespace fettle
