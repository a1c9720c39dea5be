// Q5_K: Q4_K with a fifth bit: d * factor * code - dmin * min_factor, 8 groups of 32.
// Block: d; dmin; 12 bytes of factors (k_scales.h); 32 bytes of fifth bits (byte l, bit g belongs to weight l of group g); 128 bytes of
// nibbles.
#include "format/codec.h"
#include "format/k_scales.h"

namespace fettle {
namespace {

struct Q5_K {
  [[maybe_unused]] static constexpr int kBlock = 256, kBytes = 176, kGroup = 32, kBias = 0;
  static constexpr bool kAffine = true;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int i = 0; i < 4; i++) split_nibbles<32>(b + 48 + 32 * i, codes + 64 * i);
    for (int g = 0; g < 8; g++)
      for (int l = 0; l < 32; l++) codes[32 * g + l] |= (b[16 + l] >> g & 1) << 4;
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    std::memset(b + 16, 0, 32);
    for (int j = 0; j < kBlock; j++) b[16 + j % 32] |= uint8_t(codes[j] >> 4 << j / 32);
    for (int i = 0; i < 4; i++) join_nibbles<32>(codes + 64 * i, b + 48 + 32 * i);
  }
  static void scales(const uint8_t* b, float* scales, float* mins) { read_k_scales(b, scales, mins); }

  static void encode(Sample& s, uint8_t* b) {
    const AffineSuper found = encode_super_affine(s, kGroup, 31, 63);
    write_k_scales(found, b);
    put_codes(found.codes, b);
  }
};

}  // namespace

extern const Format format_q5_k = {.name = "Q5_K",
                                   .gguf_id = 13,
                                   .file_type = 16,
                                   .block = Q5_K::kBlock,
                                   .block_bytes = Q5_K::kBytes,
                                   .group = Q5_K::kGroup,
                                   .codes = 32,
                                   .zero = -1,
                                   .table = nullptr,
                                   .scale_at = 0,
                                   .min_at = 2,
                                   .scale_parts = 1,
                                   .decode = decode_blocks<Q5_K>,
                                   .encode = encode_blocks<Q5_K>,
                                   .unpack = unpack_blocks<Q5_K>,
                                   .recode = recode_blocks<Q5_K>};

}  // namespace fettle
