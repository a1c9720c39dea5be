// F32: the floats themselves.
#include <cstring>

#include "format/format.h"

namespace fettle {
namespace {

void decode(const void* blocks, float* weights, int64_t n) noexcept { std::memcpy(weights, blocks, size_t(n) * 4); }
void encode(const float* weights, void* blocks, int64_t n, const float*) noexcept { std::memcpy(blocks, weights, size_t(n) * 4); }

}  // namespace

extern const Format format_f32 = {.name = "F32",
                                  .gguf_id = 0,
                                  .file_type = 0,
                                  .block = 1,
                                  .block_bytes = 4,
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
