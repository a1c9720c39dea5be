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

// body(group, codes, scales, mins) for each of `groups` groups of P panels, `stride` bytes apart, the first at w: codes are those of the
// first panel, scales and mins of all. Stream: the panels come from memory, and so do those behind each. The first-level cache alone has
// too few lines under way for the bandwidth, so what is needed later goes to the second level first (measured on Sapphire Rapids: 77 % of
// the bandwidth without, 84 % with).
template <class S, bool Stream, int P, class Body>
[[gnu::always_inline]] inline void each_group(const uint8_t* w, int64_t stride, int groups, Body&& body) {
  constexpr int kNear = 512, kFar = 8192;
  const auto fetch = [stride](const uint8_t* from, int bytes) {
    if constexpr (Stream)
      for (int line = 0; line < bytes; line += 64)
        for (int p = 0; p < P; p++) prefetch(from + p * stride + kNear + line), prefetch_far(from + p * stride + kFar + line);
  };
  const auto halves = [stride](const uint8_t* at, F(&to)[P]) {
    unroll<0, P>([&](auto p) { to[p.value] = f_from_half(reinterpret_cast<const uint16_t*>(at + p.value * stride)); });
  };
  F scale[P], min[P];
  unroll<0, P>([&](auto p) { min[p.value] = f_zero(); });
  if constexpr (S::kSuper) {
    constexpr int kGroups = IntPanelLayout::kSuper / S::kGroup, kFactors = kGroups * 16;
    constexpr int kCodes = kGroups * S::kBytes, kScales = (kFactors + 32) * S::kParts;
    const auto multiples = [stride](const F(&of)[P], const uint8_t* factors, F(&to)[P]) {
      unroll<0, P>(
          [&](auto p) { to[p.value] = f_mul(of[p.value], f_from_i8(reinterpret_cast<const int8_t*>(factors + p.value * stride))); });
    };
    F whole[P], whole_min[P];
    for (int i = 0; i < groups; i += kGroups, w += kCodes + kScales) {
      const uint8_t* factors = w + kCodes;
      fetch(factors, kScales);
      halves(factors + kFactors * S::kParts, whole);
      if constexpr (S::kAffine) halves(factors + kFactors * S::kParts + 32, whole_min);
      for (int j = 0; j < kGroups; j++) {
        fetch(w + j * S::kBytes, S::kBytes);
        multiples(whole, factors + j * 16, scale);
        if constexpr (S::kAffine) multiples(whole_min, factors + kFactors + j * 16, min);
        body(i + j, w + j * S::kBytes, scale, min);
      }
    }
  } else {
    constexpr int kBytes = S::kBytes + 32 * S::kParts;
    for (int i = 0; i < groups; i++, w += kBytes) {
      fetch(w, kBytes);
      halves(w + S::kBytes, scale);
      if constexpr (S::kAffine) halves(w + S::kBytes + 32, min);
      body(i, w, scale, min);
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
