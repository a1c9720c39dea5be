// The registry of formats (one file each in block/, listed by CMake) and the conversions between f32 and the two 16-bit floats.
// The conversions are branch-free so that loops over them vectorise, and use no instruction that a machine may lack.
#include "format/format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>

#include "format/half.h"

namespace fettle {

#define X(stem) extern const Format format_##stem;
#include "formats.inc"
#undef X

namespace {

const Format* const kFormats[] = {
#define X(stem) &format_##stem,
#include "formats.inc"
#undef X
};

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

std::span<const Format* const> formats() {
  static const auto sorted = [] {
    auto list = std::to_array(kFormats);
    std::ranges::sort(list, {}, [](const Format* f) { return std::string_view(f->name); });
    return list;
  }();
  return sorted;
}

const Format* find_format(std::string_view name) {
  for (const Format* f : kFormats)
    if (same_name(f->name, name)) return f;
  return nullptr;
}

const Format* find_format(int gguf_id) {
  for (const Format* f : kFormats)
    if (f->gguf_id == gguf_id && gguf_id >= 0) return f;
  return nullptr;
}

uint16_t half_from_float(float x) noexcept { return half_bits(x); }
float float_from_half(uint16_t h) noexcept { return half_value(h); }
uint16_t bfloat_from_float(float x) noexcept { return bfloat_bits(x); }
float float_from_bfloat(uint16_t b) noexcept { return std::bit_cast<float>(uint32_t(b) << 16); }

}  // namespace fettle
