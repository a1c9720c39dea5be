// What TQ1_0 and TQ2_0 share: 256 weights that are -1, 0 or 1 times one half scale. They are for models that were trained to such weights;
// those are kept to the rounding of the scale.
#pragma once
#include "format/codec.h"

namespace fettle {

// Codes 0, 1, 2 of a block (s.n weights) that lose least, and its scale. Exact: for whatever scale, the weights that are not zero are the
// largest ones, so each number of largest weights is tried, with the scale that is best for it.
uint16_t encode_ternary(const Sample& s, uint8_t* codes);

// One scale for all eight groups.
inline void same_scale(float d, float* scales) {
  for (int g = 0; g < 8; g++) scales[g] = d;
}

}  // namespace fettle
