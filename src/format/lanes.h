// Four floats at a time: the compiler's own vectors (16 bytes, present on every machine that fettle runs on), so that the sums of a search
// have one order everywhere. For search.cc and super_block.cc.
#pragma once
#include <cstring>

namespace fettle {

typedef float f4 __attribute__((vector_size(16)));

inline f4 load(const float* p) {
  f4 v;
  std::memcpy(&v, p, 16);
  return v;
}
inline void store(float* p, f4 v) { std::memcpy(p, &v, 16); }
inline f4 splat(float x) { return f4{x, x, x, x}; }
inline float sum(f4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline f4 clamp(f4 v, f4 lo, f4 hi) {
  v = v < lo ? lo : v;
  return v > hi ? hi : v;
}
// Adding 1.5 * 2^23 leaves no room for a fraction: round to nearest even, for |v| < 2^22.
inline f4 round(f4 v) {
  f4 magic = splat(12582912.0f);
  return (v + magic) - magic;
}

}  // namespace fettle
