// NF4 (Dettmers et al. 2023, "QLoRA"): 16 quantiles of the normal distribution, scaled to [-1, 1].
#include "format/four_bits.h"

namespace fettle {
namespace {

struct NF4 : FourBits<NF4> {
  static constexpr float kValues[16] = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};
  // of all units up to 127 the one whose whole numbers lie nearest to the values: 0.0017 off (root of the mean square), 127 would be 0.0022
  static constexpr float kUnits = 112.03f;
  static constexpr uint8_t kTable[16] = {16, 50, 69, 84, 96, 107, 118, 128, 137, 146, 156, 166, 177, 191, 209, 240};
};

}  // namespace

extern const Format format_nf4 = four_bits_format<NF4>("NF4");

}  // namespace fettle
