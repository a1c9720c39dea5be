// The table of kernels that each instruction set fills (kernel/*.kernel.cc) and the arguments they take. Private to the room.
// "Lane" is one of 16 outputs of a panel; a panel is 16 rows of a weight matrix, interleaved so that one vector load gives all 16 lanes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "op/arithmetic.h"

namespace fettle {

// c[m][n] (+)= alpha * sum_k a[m][k] * b[k][n].  a: element (m, k) at a[m * a_row + k * a_step].  b: lanes of panel p, step k at
// b + p * b_panel + k * b_step, 16 readable floats even where n ends inside the panel.
template <class Element>
struct GemmFloat {
  const float* a;
  int64_t a_row, a_step;
  const Element* b;
  int64_t b_panel, b_step;
  float* c;
  int64_t c_row;
  int m, n, k;
  float alpha;
  bool accumulate;
};
using GemmF32 = GemmFloat<float>;
using GemmHalf = GemmFloat<uint16_t>;  // b in f16: a page of the KV cache, widened in registers

// Memory that is read soon: `times` pieces of so many cache lines, `stride` bytes apart.
struct Ahead {
  const std::byte* from = nullptr;
  int64_t stride = 0;
  int lines = 0, times = 0;
};

// The same on pairs of bf16: b is [panel][k/2][16] dwords of two bf16; a is (m, k/2) pairs, of bf16 or of f32 as Kernels::pair_bytes says,
// whose rows lie as Kernels::pair_rows says.
struct GemmBf16 {
  const void* a;
  int64_t a_row;
  const uint32_t* b;
  int64_t b_panel;
  const float* from;  // (m, n), what sums start from: c itself, another matrix, or nullptr: zero
  int64_t from_row;
  float* c;
  int64_t c_row;
  int m, n, pairs;
  Ahead ahead[2] = {};  // what may be fetched meanwhile
};

// c[m][n] += sum_k a[m][k] * scale[n / 32][k] * b[k][n]: the values of a page of the KV cache in 8 bits.
struct GemmBytes {
  const float* a;  // (m, k) in rows of a_row, kByteSteps readable floats each
  int64_t a_row;
  const int8_t* b;  // (k, n) in rows of b_row, n rounded up to 16 readable bytes each
  int64_t b_row;
  const uint16_t* scale;  // f16, (n / 32 rounded up, kByteSteps)
  float* c;
  int64_t c_row;
  int m, n, k;  // k: at most kByteSteps
};
constexpr int kByteSteps = 64;

// Integer panels. A group is `group` consecutive inputs under one scale. Its codes, then 16 f16 scales, then 16 f16 mins when affine; or,
// where scales are multiples of a super-block's, the codes of all its groups, 16 signed bytes for each group's scales, as many for mins,
// and then the 16 f16 that these are multiples of. Codes of inputs 4s .. 4s+3 of all 16 lanes, 4 bytes each, are step s, 64 bytes wide once
// expanded. 8 bits: steps as they are. 4 bits: step s in the low halves, step s + group/8 in the high halves. 5 and 6 bits: 4 bits as
// before, then vectors of the upper bits, bit s (5 bits) or bits 2(s % 4) and the next of vector s/4 (6 bits). weight = row_factor * (scale
// * (value(code) - zero) + min). Integer sums of a group start at kSumStart: its bits, read as f32, are 12582912 = 1.5 * 2^23, so that
// adding an integer below 2^22 to the bits adds it to the number. A sum then becomes a float by no instruction at all, and x_scale * sum is
// one fused multiply-add, exact because 12582912 * x_scale is.
constexpr int32_t kSumStart = 0x4b400000;
constexpr float kSumStartValue = 12582912.0f;
constexpr int kScaleBits = 16;  // significant bits of an activation's scale; more than 22 would not be exact
struct IntPanelLayout {
  static constexpr int kSuper = 256;  // inputs of a super-block
  int group;                          // 16 or 32
  int bits;                           // 4 or 8
  bool affine;
  int zero;              // symmetric formats: the code's value that stands for 0
  const uint8_t* table;  // values of 4-bit codes, or nullptr
  bool super;
  int64_t code_bytes() const { return int64_t(group) * 16 * bits / 8; }  // of a group
  int unit() const { return super ? kSuper : group; }                    // inputs that lie together
  // Of so many inputs of a panel, a multiple of the unit.
  int64_t panel_bytes(int64_t inputs) const {
    const int64_t parts = affine ? 2 : 1;
    return inputs / group * (code_bytes() + (super ? 16 * parts : 0)) + inputs / unit() * 32 * parts;
  }
};
struct GemmInt8 {
  IntPanelLayout layout;
  const uint8_t* panels;     // panel_bytes(k) each
  const float* row_factors;  // (panels * 16)
  const int8_t* x;           // (m, k)
  const float* x_scale;      // (k / 32, x_rows): rows of one group lie together, so that a tile needs one pointer for all of its rows
  const float* x_offset;     // (k / 32, x_rows): -kSumStartValue * x_scale
  const float* x_sum;        // affine: (groups, x_rows), x_scale * sum of the group's x
  const int32_t* x_start;    // symmetric: (groups, x_rows), kSumStart - zero * sum of the group's x
  int64_t x_rows;
  float* c;
  int64_t c_row;
  int m, k;
  int first_panel, last_panel, n;  // n: valid lanes over all panels
  uint8_t* scratch;                // kIntPanels unpacked panels: 2 * (k * 16 + k / group * 128) bytes, 64-byte aligned
};

// Groups of one integer panel as bf16 pairs: out is [groups * group / 2][16] dwords, (input 2j, input 2j + 1) of each lane.
struct CodesToPairs {
  IntPanelLayout layout;
  const uint8_t* codes;      // the first of the groups
  const float* row_factors;  // (16)
  int groups;
  uint32_t* out;
};

struct Kernels {
  int pair_bytes;  // 4: the machine multiplies bf16 by bf16; 8: inputs of bf16 products stay f32
  // 1: rows of pairs lie one after another. 16: in blocks of 16 rows, their pairs 16 at a time (a tile), pairs of the last step that no
  // row has are zero.
  int pair_rows;
  int pair_cost;    // the time of a bf16 multiply-add, in sixteenths of an f32 one's
  int stream_rows;  // up to this many rows gemm_int8 is fastest without scratch
  void (*gemm_f32)(const GemmF32&);
  void (*gemm_half)(const GemmHalf&);
  void (*gemm_bytes)(const GemmBytes&);
  void (*gemm_bf16)(const GemmBf16&);  // only between the two below
  // The registers of bf16 products made ready for the calling thread, and given back. nullptr: they need nothing.
  void (*begin_bf16)();
  void (*end_bf16)();
  void (*gemm_int8)(const GemmInt8&);
  // nullptr: many rows are multiplied fastest by gemm_int8.
  void (*codes_to_pairs)(const CodesToPairs&);
  // x (n, a multiple of 32) -> int8 codes, scales (n / 32) with their offsets for GemmInt8, and sums of codes (n / 16); but for codes,
  // one number every `stride`.
  void (*quantize_row)(const float* x, int n, int8_t* codes, int64_t stride, float* scales, float* offsets, int32_t* sums);
  // x (n, a multiple of 32) -> codes in [-127, 127] and f16 scales (n / 32), chosen so that no code is cut off.
  void (*to_bytes)(const float* x, int n, int8_t* codes, uint16_t* scales);
  void (*to_bfloat)(const float* x, int64_t n, uint16_t* out);
  // Pairs of one step of a right side: lane i is (even[i], odd[i]); panels of 16 lanes lie `panel` dwords apart.
  void (*to_pairs)(const float* even, const float* odd, int n, uint32_t* out, int64_t panel);
  void (*to_half)(const float* x, int64_t n, uint16_t* out);
  void (*from_half)(const uint16_t* x, int64_t n, float* out);
  // y = x * weight / sqrt(mean(x^2) + epsilon); returns the factor.
  float (*rmsnorm_row)(const float* x, const float* weight, float epsilon, int n, float* y);
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
  // given d(out): d(gate) +=, d(up) +=
  void (*swiglu_back)(const float* gate, const float* up, const float* dout, int64_t n, float* dgate, float* dup);
  // The same with GELU (its tanh form) of the gate.
  void (*geglu)(const float* gate, const float* up, int64_t n, float* out);
  void (*geglu_back)(const float* gate, const float* up, const float* dout, int64_t n, float* dgate, float* dup);
  // GELU by its exact form, x Phi(x) with Phi the normal distribution.
  void (*gelu)(const float* x, int64_t n, float* out);
  void (*gelu_back)(const float* x, const float* dout, int64_t n, float* dx);  // dx +=
  void (*soft_cap)(float cap, int64_t n, float* x);                            // x = cap * tanh(x / cap)
  // d(x) from d(capped), in place: dx *= 1 - (capped / cap)^2
  void (*soft_cap_back)(float cap, const float* capped, int64_t n, float* dx);
  void (*add)(const float* x, int64_t n, float* y);                 // y += x
  void (*scale)(float factor, int64_t n, float* y);                 // y *= factor
  void (*axpy)(float factor, const float* x, int64_t n, float* y);  // y += factor * x
  float (*dot)(const float* x, const float* y, int64_t n);
  float (*maximum)(const float* x, int64_t n);
  // x = e^(x - shift), 0 where that is below e^-60; returns the sum.
  float (*exp_sum)(float* x, float shift, int64_t n);
  // Rotates `pairs` pairs of one head by the angles given as cosines and sines; pairs lie (2i, 2i+1) or (i, i + pairs).
  void (*rotate)(float* x, const float* cosines, const float* sines, int pairs, bool interleaved, float direction);
  // Multiply-adds of products of one kind, on registers alone; returns how many operations that was (a multiply-add counts as two).
  int64_t (*peak)(Arithmetic kind, int64_t rounds);
};

// The table of the instruction set in use.
const Kernels& kernels();

// While it lives the calling thread can call gemm_bf16.
class Bf16Products {
 public:
  Bf16Products() {
    if (kernels().begin_bf16) kernels().begin_bf16();
  }
  ~Bf16Products() {
    if (kernels().end_bf16) kernels().end_bf16();
  }
  Bf16Products(const Bf16Products&) = delete;
};

namespace kernels_portable {
extern const Kernels table;
}
namespace kernels_avx2 {
extern const Kernels table;
}
namespace kernels_avx512 {
extern const Kernels table;
}
namespace kernels_avx512_bf16 {
extern const Kernels table;
}
namespace kernels_neon {
extern const Kernels table;
}
namespace kernels_neon_i8mm {
extern const Kernels table;
}
// What amx does otherwise than avx512_bf16, whose table is its own but for these.
namespace kernels_amx {
void gemm_bf16(const GemmBf16& g);
void begin_bf16();
void end_bf16();
void codes_to_pairs(const CodesToPairs& g);
int64_t peak(Arithmetic kind, int64_t rounds);
}  // namespace kernels_amx

}  // namespace fettle
