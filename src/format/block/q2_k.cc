// Q2_K: 256 weights in 16 groups of 16 with 4-bit factors of a half scale d and a half min: d * factor * code - dmin * min_factor.
// Block: 16 bytes (factor low, min factor high); 64 bytes of 2-bit codes (k_scales.h); d; dmin.
#include "format/codec.h"
#include "format/k_scales.h"

namespace fettle {
namespace {

struct Q2_K {
  [[maybe_unused]] static constexpr int kBlock = 256, kBytes = 84, kGroup = 16, kBias = 0;
  static constexpr bool kAffine = true;
  static void codes(const uint8_t* b, uint8_t* codes) { split_pairs(b + 16, codes); }
  static void put_codes(const uint8_t* codes, uint8_t* b) { join_pairs(codes, b + 16); }
  static void scales(const uint8_t* b, float* scales, float* mins) {
    const float d = read_half(b + 80), m = read_half(b + 82);
    for (int g = 0; g < 16; g++) {
      scales[g] = d * float(b[g] & 15);
      mins[g] = -(m * float(b[g] >> 4));
    }
  }

  static void encode(Sample& s, uint8_t* b) {
    const AffineSuper found = encode_super_affine(s, kGroup, 3, 15);
    for (int g = 0; g < 16; g++) b[g] = uint8_t(found.factors[g] | found.min_factors[g] << 4);
    put_codes(found.codes, b);
    write_u16(b + 80, found.scale);
    write_u16(b + 82, found.min);
  }
};

}  // namespace

extern const Format format_q2_k = {.name = "Q2_K",
                                   .gguf_id = 10,
                                   .file_type = 10,
                                   .block = Q2_K::kBlock,
                                   .block_bytes = Q2_K::kBytes,
                                   .group = Q2_K::kGroup,
                                   .codes = 4,
                                   .zero = -1,
                                   .table = nullptr,
                                   .scale_at = 80,
                                   .min_at = 82,
                                   .scale_parts = 1,
                                   .decode = decode_blocks<Q2_K>,
                                   .encode = encode_blocks<Q2_K>,
                                   .unpack = unpack_blocks<Q2_K>,
                                   .recode = recode_blocks<Q2_K>};

}  // namespace fettle
