// FP4 as bitsandbytes has it: a sign, two bits of exponent and one of mantissa, the largest scaled to 1. All are 120ths but for the
// smallest.
#include "format/four_bits.h"

namespace fettle {
namespace {

struct FP4 : FourBits<FP4> {
  static constexpr float kLeast = 0.0625f / 12, kTwoThirds = 8.0f / 12, kThird = 4.0f / 12, kSixth = 2.0f / 12;
  static constexpr float kValues[16] = {0, kLeast,  kTwoThirds,  1,  kThird,  0.5f,  kSixth,  0.25f,
                                        0, -kLeast, -kTwoThirds, -1, -kThird, -0.5f, -kSixth, -0.25f};
  static constexpr float kUnits = 120;
  static constexpr uint8_t kTable[16] = {128, 129, 208, 248, 168, 188, 148, 158, 128, 127, 48, 8, 88, 68, 108, 98};
};

}  // namespace

extern const Format format_fp4 = four_bits_format<FP4>("FP4");

}  // namespace fettle
