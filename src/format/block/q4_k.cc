// Q4_K: 256 weights in 8 groups of 32 with 6-bit factors of a half scale d and a half min: d * factor * code - dmin * min_factor.
// Block: d; dmin; 12 bytes of factors (k_scales.h); 128 bytes of nibbles (in each 64 weights, weight j low, j + 32 high).
#include "format/codec.h"
#include "format/k_scales.h"

namespace fettle {
namespace {

struct Q4_K {
  [[maybe_unused]] static constexpr int kBlock = 256, kBytes = 144, kGroup = 32, kBias = 0;
  static constexpr bool kAffine = true;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 4; i++) split_nibbles<32>(b + 16 + 32 * i, codes + 64 * i);
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    for (int i = 0; i < 4; i++) join_nibbles<32>(codes + 64 * i, b + 16 + 32 * i);
  }
  static void scales(const uint8_t* b, float* scales, float* mins) { read_k_scales(b, scales, mins); }

  static void encode(Sample& s, uint8_t* b) {
    const AffineSuper found = encode_super_affine(s, kGroup, 15, 63);
    write_k_scales(found, b);
    put_codes(found.codes, b);
  }
};

}  // namespace

extern const Format format_q4_k = {.name = "Q4_K",
                                   .gguf_id = 12,
                                   .file_type = 14,
                                   .block = Q4_K::kBlock,
                                   .block_bytes = Q4_K::kBytes,
                                   .group = Q4_K::kGroup,
                                   .codes = 16,
                                   .zero = -1,
                                   .table = nullptr,
                                   .scale_at = 0,
                                   .min_at = 2,
                                   .scale_parts = 1,
                                   .decode = decode_blocks<Q4_K>,
                                   .encode = encode_blocks<Q4_K>,
                                   .unpack = unpack_blocks<Q4_K>,
                                   .recode = recode_blocks<Q4_K>};

}  // namespace fettle
