// Everything that is not a product: conversions, norms, activations, sums. Also the table that names this instruction set's kernels.
#include "op/kernel/gemm.h"

namespace fettle::FETTLE_KERNELS {
namespace {

// Applies body(pointer offset, lanes) over n elements: full vectors, then one short one.
template <class Body>
inline void sweep(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) body(i, 16);
  if (i < n) body(i, int(n - i));
}
inline F get(const float* p, int lanes) { return lanes == 16 ? f_load(p) : f_load_n(p, lanes); }
inline void set(float* p, F x, int lanes) { lanes == 16 ? f_store(p, x) : f_store_n(p, x, lanes); }

int32_t sum_i8(const int8_t* x, int n) {
  int32_t s = 0;
  for (int i = 0; i < n; i++) s += x[i];
  return s;
}

// Rounded up to kScaleBits significant bits.
float short_scale(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  constexpr uint32_t kDropped = (1u << (24 - kScaleBits)) - 1;
  bits = (bits + kDropped) & ~kDropped;
  std::memcpy(&x, &bits, 4);
  return x;
}

void quantize_row(const float* x, int n, int8_t* codes, int64_t stride, float* scales, float* offsets, int32_t* sums) {
  constexpr float kLeast = 1e-30f;  // so that the scale's inverse is finite
  for (int i = 0; i < n; i += 32) {
    const F a = f_load(x + i), b = f_load(x + i + 16);
    const float largest = f_maximum(f_max(f_abs(a), f_abs(b)));
    const float scale = largest > kLeast ? short_scale(largest / 127.0f) : 0.0f, inverse = largest > kLeast ? 1.0f / scale : 0.0f;
    f_to_i8(codes + i, f_mul(a, f_set1(inverse)));
    f_to_i8(codes + i + 16, f_mul(b, f_set1(inverse)));
    const int64_t block = i / 32 * stride;
    scales[block] = scale;
    offsets[block] = -kSumStartValue * scale;
    sums[2 * block] = sum_i8(codes + i, 16);
    sums[2 * block + stride] = sum_i8(codes + i + 16, 16);
  }
}

void to_bytes(const float* x, int n, int8_t* codes, uint16_t* scales) {
  for (int i = 0; i < n; i += 32, scales++) {
    const F a = f_load(x + i), b = f_load(x + i + 16);
    const float wanted = f_maximum(f_max(f_abs(a), f_abs(b))) / 127.0f;
    uint16_t half[16];
    float scale[16];
    f_to_half(half, f_set1(wanted));
    f_store(scale, f_from_half(half));
    if (scale[0] < wanted) {  // the next larger half
      half[0]++;
      f_store(scale, f_from_half(half));
    }
    const F inverse = f_set1(scale[0] > 0 ? 1.0f / scale[0] : 0.0f);
    f_to_i8(codes + i, f_mul(a, inverse));
    f_to_i8(codes + i + 16, f_mul(b, inverse));
    *scales = half[0];
  }
}

void to_bfloat(const float* x, int64_t n, uint16_t* out) {
  sweep(n, [&](int64_t i, int lanes) {
    uint16_t t[16];
    f_to_bfloat(lanes == 16 ? out + i : t, get(x + i, lanes));
    if (lanes < 16) std::memcpy(out + i, t, size_t(lanes) * 2);
  });
}

void to_pairs(const float* even, const float* odd, int n, uint32_t* out, int64_t panel) {
  for (int i = 0; i < n; i += 16, out += panel) {
    const int lanes = n - i < 16 ? n - i : 16;
    uint16_t low[16], high[16];
    f_to_bfloat(low, get(even + i, lanes));
    f_to_bfloat(high, get(odd + i, lanes));
    for (int l = 0; l < 16; l++) out[l] = low[l] | uint32_t(high[l]) << 16;
  }
}

void to_half(const float* x, int64_t n, uint16_t* out) {
  sweep(n, [&](int64_t i, int lanes) {
    uint16_t t[16];
    f_to_half(lanes == 16 ? out + i : t, get(x + i, lanes));
    if (lanes < 16) std::memcpy(out + i, t, size_t(lanes) * 2);
  });
}

void from_half(const uint16_t* x, int64_t n, float* out) {
  sweep(n, [&](int64_t i, int lanes) {
    uint16_t t[16] = {};
    if (lanes < 16) std::memcpy(t, x + i, size_t(lanes) * 2);
    set(out + i, f_from_half(lanes == 16 ? x + i : t), lanes);
  });
}

float rmsnorm_row(const float* x, const float* weight, float epsilon, int n, float* y) {
  F squares = f_zero();
  sweep(n, [&](int64_t i, int lanes) {
    F v = get(x + i, lanes);
    squares = f_fma(v, v, squares);
  });
  float factor = 1.0f / __builtin_sqrtf(f_sum(squares) / float(n) + epsilon);
  sweep(n, [&](int64_t i, int lanes) { set(y + i, f_mul(f_mul(get(x + i, lanes), f_set1(factor)), get(weight + i, lanes)), lanes); });
  return factor;
}

inline F sigmoid(F x) { return f_div(f_set1(1), f_add(f_set1(1), f_exp(f_sub(f_zero(), x)))); }

void swiglu(const float* gate, const float* up, int64_t n, float* out) {
  sweep(n, [&](int64_t i, int lanes) {
    F g = get(gate + i, lanes);
    set(out + i, f_mul(f_mul(g, sigmoid(g)), get(up + i, lanes)), lanes);
  });
}

void swiglu_back(const float* gate, const float* up, const float* dout, int64_t n, float* dgate, float* dup) {
  sweep(n, [&](int64_t i, int lanes) {
    F g = get(gate + i, lanes), u = get(up + i, lanes), d = get(dout + i, lanes), s = sigmoid(g);
    // silu'(g) = s * (1 + g * (1 - s))
    F slope = f_mul(s, f_fma(g, f_sub(f_set1(1), s), f_set1(1)));
    set(dgate + i, f_fma(f_mul(d, u), slope, get(dgate + i, lanes)), lanes);
    set(dup + i, f_fma(d, f_mul(g, s), get(dup + i, lanes)), lanes);
  });
}

// gelu(g) = g (1 + tanh u) / 2 = g sigmoid(2u) with u = sqrt(2 / pi) (g + 0.044715 g^3). Below are 2u and its slope.
constexpr float kTwice = 1.5957691216057308f, kCubic = 0.044715f;
inline F gelu_inner(F g) { return f_mul(f_mul(g, f_set1(kTwice)), f_fma(f_mul(g, g), f_set1(kCubic), f_set1(1))); }
inline F gelu_slope(F g) { return f_mul(f_set1(kTwice), f_fma(f_mul(g, g), f_set1(3 * kCubic), f_set1(1))); }

void geglu(const float* gate, const float* up, int64_t n, float* out) {
  sweep(n, [&](int64_t i, int lanes) {
    F g = get(gate + i, lanes);
    set(out + i, f_mul(f_mul(g, sigmoid(gelu_inner(g))), get(up + i, lanes)), lanes);
  });
}

void geglu_back(const float* gate, const float* up, const float* dout, int64_t n, float* dgate, float* dup) {
  sweep(n, [&](int64_t i, int lanes) {
    F g = get(gate + i, lanes), u = get(up + i, lanes), d = get(dout + i, lanes), s = sigmoid(gelu_inner(g));
    // gelu'(g) = s + g s (1 - s) (2u)' = s (1 + g (1 - s) (2u)')
    F slope = f_mul(s, f_fma(f_mul(g, f_sub(f_set1(1), s)), gelu_slope(g), f_set1(1)));
    set(dgate + i, f_fma(f_mul(d, u), slope, get(dgate + i, lanes)), lanes);
    set(dup + i, f_fma(d, f_mul(g, s), get(dup + i, lanes)), lanes);
  });
}

// Of the normal distribution, what lies beyond |x|, and e^(-x^2 / 2). Source: Abramowitz & Stegun 7.1.26, within 0.75e-7.
struct Tail {
  F beyond, bell;
};
inline Tail normal_tail(F x) {
  F t = f_div(f_set1(1), f_fma(f_abs(x), f_set1(0.3275911f * 0.70710678f), f_set1(1)));
  F bell = f_exp(f_mul(f_mul(x, x), f_set1(-0.5f))), p = f_set1(1.061405429f);
  constexpr float kRest[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
  for (float c : kRest) p = f_fma(p, t, f_set1(c));
  return {f_mul(f_mul(p, t), f_mul(bell, f_set1(0.5f))), bell};
}

void gelu(const float* x, int64_t n, float* out) {
  sweep(n, [&](int64_t i, int lanes) {
    F v = get(x + i, lanes);
    set(out + i, f_sub(f_max(v, f_zero()), f_mul(f_abs(v), normal_tail(v).beyond)), lanes);
  });
}

void gelu_back(const float* x, const float* dout, int64_t n, float* dx) {
  sweep(n, [&](int64_t i, int lanes) {
    F v = get(x + i, lanes);
    const Tail tail = normal_tail(v);
    // (x Phi)' = Phi + x phi; what lies below x is the tail, or all but the tail
    F above_zero = f_min(f_max(f_mul(v, f_set1(1e30f)), f_zero()), f_set1(1));
    F below = f_fma(above_zero, f_fma(tail.beyond, f_set1(-2), f_set1(1)), tail.beyond);
    F slope = f_fma(f_mul(v, tail.bell), f_set1(0.3989422804f), below);
    set(dx + i, f_fma(get(dout + i, lanes), slope, get(dx + i, lanes)), lanes);
  });
}

// tanh y = 2 sigmoid(2y) - 1
void soft_cap(float cap, int64_t n, float* x) {
  sweep(n, [&](int64_t i, int lanes) {
    F y = sigmoid(f_mul(get(x + i, lanes), f_set1(2 / cap)));
    set(x + i, f_fma(y, f_set1(2 * cap), f_set1(-cap)), lanes);
  });
}

void soft_cap_back(float cap, const float* capped, int64_t n, float* dx) {
  sweep(n, [&](int64_t i, int lanes) {
    F y = f_mul(get(capped + i, lanes), f_set1(1 / cap));
    set(dx + i, f_mul(get(dx + i, lanes), f_fma(f_sub(f_zero(), y), y, f_set1(1))), lanes);
  });
}

void add(const float* x, int64_t n, float* y) {
  sweep(n, [&](int64_t i, int lanes) { set(y + i, f_add(get(y + i, lanes), get(x + i, lanes)), lanes); });
}
void scale(float factor, int64_t n, float* y) {
  sweep(n, [&](int64_t i, int lanes) { set(y + i, f_mul(get(y + i, lanes), f_set1(factor)), lanes); });
}
void axpy(float factor, const float* x, int64_t n, float* y) {
  sweep(n, [&](int64_t i, int lanes) { set(y + i, f_fma1(factor, get(x + i, lanes), get(y + i, lanes)), lanes); });
}

float dot(const float* x, const float* y, int64_t n) {
  F s = f_zero();
  sweep(n, [&](int64_t i, int lanes) { s = f_fma(get(x + i, lanes), get(y + i, lanes), s); });
  return f_sum(s);
}

float maximum(const float* x, int64_t n) {
  float m = x[0];
  int64_t i = 0;
  if (n >= 16) {
    F v = f_load(x);
    for (i = 16; i + 16 <= n; i += 16) v = f_max(v, f_load(x + i));
    m = f_maximum(v);
  }
  for (; i < n; i++) m = x[i] > m ? x[i] : m;
  return m;
}

// What is below kNothing (e^-60) beside the largest is none: products of still smaller ones would be subnormal, which takes a processor a
// hundred times as long as other numbers. Subtracting it changes no float above 2e-19.
float exp_sum(float* x, float shift, int64_t n) {
  constexpr float kNothing = 8.7e-27f;
  F s = f_zero();
  float tail = 0;
  sweep(n, [&](int64_t i, int lanes) {
    F e = f_max(f_sub(f_exp(f_sub(get(x + i, lanes), f_set1(shift))), f_set1(kNothing)), f_zero());
    set(x + i, e, lanes);
    if (lanes == 16) {
      s = f_add(s, e);
    } else {
      for (int j = 0; j < lanes; j++) tail += x[i + j];
    }
  });
  return f_sum(s) + tail;
}

void rotate(float* x, const float* cosines, const float* sines, int pairs, bool interleaved, float direction) {
  const int step = interleaved ? 2 : 1, other = interleaved ? 1 : pairs;
  for (int i = 0; i < pairs; i++) {
    float a = x[i * step], b = x[i * step + other], c = cosines[i], s = sines[i] * direction;
    x[i * step] = a * c - b * s;
    x[i * step + other] = a * s + b * c;
  }
}

}  // namespace

extern const Kernels table = {int(sizeof(Pair)),
                              1,
                              kBf16Parts == 2 ? 16 : 8,
                              2 * kStreamRows,
                              gemm_f32,
                              gemm_half,
                              gemm_bytes,
                              gemm_bf16,
                              nullptr,
                              nullptr,
                              gemm_int8,
                              nullptr,
                              quantize_row,
                              to_bytes,
                              to_bfloat,
                              to_pairs,
                              to_half,
                              from_half,
                              rmsnorm_row,
                              swiglu,
                              swiglu_back,
                              geglu,
                              geglu_back,
                              gelu,
                              gelu_back,
                              soft_cap,
                              soft_cap_back,
                              add,
                              scale,
                              axpy,
                              dot,
                              maximum,
                              exp_sum,
                              rotate,
                              peak};

}  // namespace fettle::FETTLE_KERNELS
