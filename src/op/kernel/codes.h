// Codes of integer panels, expanded in registers. Included by *.kernel.cc only.
#pragma once
#include "op/kernel/gemm.h"

namespace fettle::FETTLE_KERNELS {

// What the codes of a layout look like: packed in `Packed` bits, values below 2^Bits once expanded (a table's values are bytes).
// Super: its groups' scales are multiples of a super-block's.
template <int Group_, int Packed_, bool Table_, bool Affine_, bool Super_>
struct Shape {
  static constexpr int kGroup = Group_, kPacked = Packed_, kBits = Table_ ? 8 : Packed_;
  static constexpr bool kTable = Table_, kAffine = Affine_, kSuper = Super_;
  static constexpr bool kFlip = kBits == 8 && kSignedBytes;                        // bytes are multiplied as signed: zero is 0, not 128
  static constexpr int kSteps = kGroup / 4;                                        // vectors of 64 expanded codes
  static constexpr int kLoads = kPacked == 8 ? kSteps : kSteps / 2;                // vectors to visit; all but 8 bits give two steps each
  static constexpr int kUpper = kPacked == 5 ? 1 : kPacked == 6 ? kSteps / 4 : 0;  // vectors of upper bits
  static constexpr int kBytes = kGroup * 16 * kPacked / 8;
  static constexpr int kParts = kAffine ? 2 : 1;  // scales, and mins
};

template <class S>
inline B value_table(const IntPanelLayout& layout) {
  if constexpr (!S::kTable) return B{};
  const B table = b_table(layout.table);
  return S::kFlip ? b_flip(table) : table;
}

// The packed codes of one group of a panel, expanded a vector at a time.
template <class S>
struct Codes {
  const uint8_t* w;
  B upper[S::kUpper ? S::kUpper : 1];

  [[gnu::always_inline]] explicit Codes(const uint8_t* at) : w(at) {
    if constexpr (S::kUpper > 0) unroll<0, S::kUpper>([&](auto i) { upper[i.value] = b_load(w + (S::kLoads + i.value) * 64); });
  }
  // Step At, its lower 4 bits given.
  template <int At>
  [[gnu::always_inline]] B complete(B lower, B table) const {
    if constexpr (S::kPacked == 5) return b_or(lower, b_shift_mask<4 - At, 0x10>(upper[0]));
    if constexpr (S::kPacked == 6) return b_or(lower, b_shift_mask<4 - At % 4 * 2, 0x30>(upper[At / 4]));
    if constexpr (S::kTable) return b_lookup(table, lower);
    return lower;
  }
  // body(Index<step>, Index<how many before>, values) for every step, in the order in which they lie in memory.
  template <class Body>
  [[gnu::always_inline]] void each(B table, Body&& body) const {
    unroll<0, S::kLoads>([&](auto c) {
      const B codes = b_load(w + c.value * 64);
      if constexpr (S::kPacked == 8) {
        body(c, c, S::kFlip ? b_flip(codes) : codes);
      } else {
        constexpr int kHigh = c.value + S::kSteps / 2;
        body(c, Index<2 * c.value>{}, this->template complete<c.value>(b_low(codes), table));
        body(Index<kHigh>{}, Index<2 * c.value + 1>{}, this->template complete<kHigh>(b_high(codes), table));
      }
    });
  }
};

// body(group, codes, scale, min) for each of `groups` groups of a panel from `w` on. Stream: the panel comes from memory, and so do those
// behind it. The first-level cache alone has too few lines under way for the bandwidth, so what is needed later goes to the second level
// first (measured on Sapphire Rapids: 77 % of the bandwidth without, 84 % with).
template <class S, bool Stream, class Body>
[[gnu::always_inline]] inline void each_group(const uint8_t* w, int groups, Body&& body) {
  constexpr int kNear = 512, kFar = 8192;
  const auto fetch = [](const uint8_t* from, int bytes) {
    if constexpr (Stream)
      for (int line = 0; line < bytes; line += 64) prefetch(from + kNear + line), prefetch_far(from + kFar + line);
  };
  if constexpr (S::kSuper) {
    constexpr int kGroups = IntPanelLayout::kSuper / S::kGroup, kFactors = kGroups * 16;
    constexpr int kCodes = kGroups * S::kBytes, kScales = (kFactors + 32) * S::kParts;
    for (int i = 0; i < groups; i += kGroups, w += kCodes + kScales) {
      const uint8_t* factors = w + kCodes;
      const uint16_t* halves = reinterpret_cast<const uint16_t*>(factors + kFactors * S::kParts);
      fetch(factors, kScales);
      const F scale = f_from_half(halves), min = S::kAffine ? f_from_half(halves + 16) : f_zero();
      for (int j = 0; j < kGroups; j++) {
        fetch(w + j * S::kBytes, S::kBytes);
        const int8_t* own = reinterpret_cast<const int8_t*>(factors + j * 16);
        body(i + j, w + j * S::kBytes, f_mul(scale, f_from_i8(own)), S::kAffine ? f_mul(min, f_from_i8(own + kFactors)) : f_zero());
      }
    }
  } else {
    constexpr int kBytes = S::kBytes + 32 * S::kParts;
    for (int i = 0; i < groups; i++, w += kBytes) {
      fetch(w, kBytes);
      const uint16_t* halves = reinterpret_cast<const uint16_t*>(w + S::kBytes);
      body(i, w, f_from_half(halves), S::kAffine ? f_from_half(halves + 16) : f_zero());
    }
  }
}

// body(Shape<...>{}) with the layout's shape. One line per shape that a format has: each costs seconds of compiling. panels.cc (panel_bits)
// knows the same list.
template <class Body>
inline void with_shape(const IntPanelLayout& l, Body&& body) {
  if (l.group == 16) {
    if (l.bits == 6) return body(Shape<16, 6, false, false, true>{});
    if (l.table) return l.super ? body(Shape<16, 4, true, false, true>{}) : body(Shape<16, 4, true, false, false>{});
    return l.affine ? body(Shape<16, 4, false, true, true>{}) : body(Shape<16, 4, false, false, true>{});
  }
  if (l.bits == 8) return body(Shape<32, 8, false, false, false>{});
  if (l.bits == 5) {
    if (l.super) return body(Shape<32, 5, false, true, true>{});
    return l.affine ? body(Shape<32, 5, false, true, false>{}) : body(Shape<32, 5, false, false, false>{});
  }
  if (l.table) return l.super ? body(Shape<32, 4, true, false, true>{}) : body(Shape<32, 4, true, false, false>{});
  if (l.super) return body(Shape<32, 4, false, true, true>{});
  l.affine ? body(Shape<32, 4, false, true, false>{}) : body(Shape<32, 4, false, false, false>{});
}

}  // namespace fettle::FETTLE_KERNELS
