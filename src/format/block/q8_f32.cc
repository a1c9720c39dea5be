// Q8_F32: Q8_0 with a scale in f32, for codes of others whose scales f16 cannot hold. Block: the scale; 32 signed bytes. Read into memory
// from folders (store/packed.h); GGUF has no such type.
#include "format/codec.h"

namespace fettle {
namespace {

struct Q8_F32 {
  static constexpr int kBlock = 32, kBytes = 36, kGroup = 32, kBias = 128;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (int j = 0; j < kBlock; j++) codes[j] = b[4 + j] ^ 128;
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    for (int j = 0; j < kBlock; j++) b[4 + j] = codes[j] ^ 128;
  }
  static void scales(const uint8_t* b, float* scales, float*) { scales[0] = read_f32(b); }
};

}  // namespace

extern const Format format_q8_f32 = {.name = "Q8_F32",
                                     .gguf_id = -1,
                                     .file_type = -1,
                                     .block = Q8_F32::kBlock,
                                     .block_bytes = Q8_F32::kBytes,
                                     .group = Q8_F32::kGroup,
                                     .codes = 256,
                                     .zero = Q8_F32::kBias,
                                     .table = nullptr,
                                     .scale_at = -1,
                                     .min_at = -1,
                                     .decode = decode_blocks<Q8_F32>,
                                     .encode = nullptr,
                                     .unpack = unpack_blocks<Q8_F32>,
                                     .recode = recode_blocks<Q8_F32>};

}  // namespace fettle
