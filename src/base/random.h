// Random numbers that can be replayed: PCG32 (O'Neill 2014), a state of 16 bytes that a checkpoint stores.
#pragma once
#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

namespace fettle {

struct Random {
  uint64_t state = 0x853c49e6748fea9bULL, stream = 0xda3e39cb94b95bdbULL;
  explicit Random(uint64_t seed = 0, uint64_t sequence = 1) : state(0), stream(sequence << 1 | 1) {
    next();
    state += seed;
    next();
  }
  uint32_t next() {
    uint64_t old = state;
    state = old * 6364136223846793005ULL + stream;
    uint32_t xorshifted = uint32_t(((old >> 18u) ^ old) >> 27u), rot = uint32_t(old >> 59u);
    return xorshifted >> rot | xorshifted << (-rot & 31);
  }
  // Uniform in [0, n), unbiased (Lemire 2019).
  uint32_t below(uint32_t n) {
    uint64_t m = uint64_t(next()) * n;
    if (uint32_t(m) < n)
      for (uint32_t threshold = -n % n; uint32_t(m) < threshold;) m = uint64_t(next()) * n;
    return uint32_t(m >> 32);
  }
  // Uniform in [0, 1).
  double uniform() {
    uint64_t high = next();  // a statement each: the order of two calls in one expression is the compiler's choice
    return double(high << 21 ^ next() >> 11) * 0x1p-53;
  }
  // Standard normal (Box-Muller; one of the pair is dropped so that no hidden state remains).
  double normal() {
    double u = 1.0 - uniform(), v = uniform();
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
  }
  // Fisher-Yates.
  template <class T>
  void shuffle(std::vector<T>& v) {
    for (size_t i = v.size(); i > 1; i--) std::swap(v[i - 1], v[below(uint32_t(i))]);
  }
};

}  // namespace fettle
