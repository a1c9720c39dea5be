// F16: IEEE half. Encoding rounds to nearest even and stops at the largest finite half: an infinite weight would poison a whole layer.
#include <cstring>

#include "format/format.h"
#include "format/half.h"

namespace fettle {
namespace {

void decode(const void* blocks, float* weights, int64_t n) noexcept {
  auto b = static_cast<const uint8_t*>(blocks);
  for (int64_t i = 0; i < n; i++) {
    uint16_t h;
    std::memcpy(&h, b + 2 * i, 2);
    weights[i] = half_value(h);
  }
}

void encode(const float* weights, void* blocks, int64_t n, const float*) noexcept {
  auto b = static_cast<uint8_t*>(blocks);
  for (int64_t i = 0; i < n; i++) {
    float x = weights[i];
    x = x > 65504.0f ? 65504.0f : x;
    x = x < -65504.0f ? -65504.0f : x;
    uint16_t h = half_bits(x);
    std::memcpy(b + 2 * i, &h, 2);
  }
}

}  // namespace

extern const Format format_f16 = {.name = "F16",
                                  .gguf_id = 1,
                                  .file_type = 1,
                                  .block = 1,
                                  .block_bytes = 2,
                                  .group = 0,
                                  .codes = 0,
                                  .zero = -1,
                                  .table = nullptr,
                                  .scale_at = -1,
                                  .min_at = -1,
                                  .decode = decode,
                                  .encode = encode,
                                  .unpack = nullptr,
                                  .recode = nullptr};

}  // namespace fettle
