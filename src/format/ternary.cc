#include "format/ternary.h"

#include <algorithm>
#include <cmath>

namespace fettle {

uint16_t encode_ternary(const Sample& s, uint8_t* codes) {
  int order[Sample::kMax];
  for (int j = 0; j < s.n; j++) order[j] = j;
  std::sort(order, order + s.n, [&](int a, int b) {
    const float x = std::fabs(s.x[a]), y = std::fabs(s.x[b]);
    return x > y || (x == y && a < b);
  });
  float weighted = 0, weights = 0, best = 0, scale = 0;
  for (int i = 0; i < s.n; i++) {
    weighted += s.w[order[i]] * std::fabs(s.x[order[i]]);
    weights += s.w[order[i]];
    if (weighted * weighted > best * weights) best = weighted * weighted / weights, scale = weighted / weights;
  }
  const uint16_t half = s.half_of(scale);
  float levels[Sample::kMax];
  nearest_levels(s.x, s.n, {-1, 1}, s.value_of(half), levels);
  for (int j = 0; j < s.n; j++) codes[j] = uint8_t(int(levels[j]) + 1);
  return half;
}

}  // namespace fettle
