// The grids of checkpoints that others write: scale * (code - zero), a half scale and a whole zero for 32, 64 or 128 weights, codes of 2,
// 3, 4 or 8 bits. A method that chooses codes writes blocks of one of these; a folder's writer packs them as its kind wants them
// (store/packed.h). No file has such blocks, and no one is offered them: they stand in no registry. Block: the scale; the zero; a byte of
// nothing; the codes, a byte each. A zero is never 0: GPTQ's first kind stores it less one.
#include <algorithm>
#include <cmath>

#include "format/codec.h"

namespace fettle {
namespace {

template <int Bits, int Group, bool Zeros>
struct Grid {
  static constexpr int kBlock = Group, kBytes = Group + 4, kGroup = 32, kBias = 0, kTop = (1 << Bits) - 1, kMiddle = (kTop + 1) / 2;
  static constexpr bool kAffine = true;
  static void codes(const uint8_t* b, uint8_t* codes) { std::copy_n(b + 4, Group, codes); }
  static void put_codes(const uint8_t* codes, uint8_t* b) { std::copy_n(codes, Group, b + 4); }
  static void scales(const uint8_t* b, float* scales, float* mins) {
    for (int g = 0; g < Group / 32; g++) {
      scales[g] = read_half(b);
      mins[g] = -(scales[g] * float(b[2]));
    }
  }

  static Levels levels(int zero) { return {float(-zero), float(kTop - zero)}; }

  // Of the zeros around the one that the range asks for, the one whose best scale loses least.
  static int find_zero(const Sample& s) {
    const auto [low, high] = std::minmax_element(s.x, s.x + s.n);
    const float range = std::max(*high, 0.0f) - std::min(*low, 0.0f);
    const int middle = int(std::nearbyint(-std::min(*low, 0.0f) / range * kTop));
    int best = kMiddle;
    float best_error = INFINITY;
    for (int zero = std::max(middle - 2, 1); zero <= std::min(middle + 2, int(kTop)); zero++) {
      const float error = scale_error(s.x, s.w, s.n, levels(zero), find_scale(s.x, s.w, s.n, levels(zero)));
      if (error < best_error) best_error = error, best = zero;
    }
    return best;
  }

  static void encode(Sample& s, uint8_t* b) {
    const int zero = Zeros ? find_zero(s) : kMiddle;
    float values[kBlock];
    uint8_t codes[kBlock];
    write_u16(b, encode_scaled(s, levels(zero), values));
    b[2] = uint8_t(zero);
    for (int j = 0; j < kBlock; j++) codes[j] = uint8_t(int(values[j]) + zero);
    put_codes(codes, b);
  }
};

template <class T>
constexpr Format kGrid = {.name = "grid",
                          .gguf_id = -1,
                          .file_type = -1,
                          .block = T::kBlock,
                          .block_bytes = T::kBytes,
                          .group = T::kGroup,
                          .codes = T::kTop + 1,
                          .zero = -1,
                          .table = nullptr,
                          .scale_at = -1,
                          .min_at = -1,
                          .decode = decode_blocks<T>,
                          .encode = encode_blocks<T>,
                          .unpack = unpack_blocks<T>,
                          .recode = recode_blocks<T>};

template <int Bits, bool Zeros>
const Format* of_group(int group) {
  switch (group) {
    case 32:
      return &kGrid<Grid<Bits, 32, Zeros>>;
    case 64:
      return &kGrid<Grid<Bits, 64, Zeros>>;
    case 128:
      return &kGrid<Grid<Bits, 128, Zeros>>;
    default:
      return nullptr;
  }
}

}  // namespace

const Format* grid_format(int bits, int group, bool zeros) {
  switch (bits) {
    case 2:
      return zeros ? of_group<2, true>(group) : of_group<2, false>(group);
    case 3:
      return zeros ? of_group<3, true>(group) : of_group<3, false>(group);
    case 4:
      return zeros ? of_group<4, true>(group) : of_group<4, false>(group);
    case 8:
      return zeros ? of_group<8, true>(group) : of_group<8, false>(group);
    default:
      return nullptr;
  }
}

}  // namespace fettle
