// TQ2_0: 256 weights of 2 bits, one half scale d: d * (code - 1). Block: 64 bytes of codes (k_scales.h); d. The fourth code is read as 2
// and never written by encode().
#include "format/k_scales.h"
#include "format/ternary.h"

namespace fettle {
namespace {

struct TQ2_0 {
  static constexpr int kBlock = 256, kBytes = 66, kGroup = 32, kBias = 1;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) { split_pairs(b, codes); }
  static void put_codes(const uint8_t* codes, uint8_t* b) { join_pairs(codes, b); }
  static void scales(const uint8_t* b, float* scales, float*) { same_scale(read_half(b + 64), scales); }

  static void encode(Sample& s, uint8_t* b) {
    uint8_t codes[kBlock];
    write_u16(b + 64, encode_ternary(s, codes));
    put_codes(codes, b);
  }
};

}  // namespace

extern const Format format_tq2_0 = {.name = "TQ2_0",
                                    .gguf_id = 35,
                                    .file_type = 37,
                                    .block = TQ2_0::kBlock,
                                    .block_bytes = TQ2_0::kBytes,
                                    .group = TQ2_0::kGroup,
                                    .codes = 4,
                                    .zero = TQ2_0::kBias,
                                    .table = nullptr,
                                    .scale_at = 64,
                                    .min_at = -1,
                                    .by_name = true,
                                    .decode = decode_blocks<TQ2_0>,
                                    .encode = encode_blocks<TQ2_0>,
                                    .unpack = unpack_blocks<TQ2_0>,
                                    .recode = recode_blocks<TQ2_0>};

}  // namespace fettle
