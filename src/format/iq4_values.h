// The 16 values of IQ4_NL and IQ4_XS (facts of the GGUF format), plus 128.
#pragma once
#include "format/search.h"

namespace fettle {

inline constexpr uint8_t kIq4Values[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

inline const Levels& iq4_levels() {
  static const NearestLevel nearest(kIq4Values);
  static const Levels levels{-127, 113, &nearest};
  return levels;
}

// Which of the 16 a value is.
inline uint8_t iq4_code(float value) {
  uint8_t code = 0;
  for (int k = 1; k < 16; k++) code += int(value) + 128 >= int(kIq4Values[k]);
  return code;
}

}  // namespace fettle
