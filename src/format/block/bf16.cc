// BF16: the top half of an f32, rounded to nearest even.
#include <bit>
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
    weights[i] = std::bit_cast<float>(uint32_t(h) << 16);
  }
}

void encode(const float* weights, void* blocks, int64_t n, const float*) noexcept {
  auto b = static_cast<uint8_t*>(blocks);
  for (int64_t i = 0; i < n; i++) {
    constexpr float kLargest = 0x1.fep127f;  // rounding must not turn a finite weight into an infinite one
    float x = weights[i];
    x = x > kLargest ? kLargest : x;
    x = x < -kLargest ? -kLargest : x;
    uint16_t h = bfloat_bits(x);
    std::memcpy(b + 2 * i, &h, 2);
  }
}

}  // namespace

extern const Format format_bf16 = {.name = "BF16",
                                   .gguf_id = 30,
                                   .file_type = 32,
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
