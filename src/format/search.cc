// The weighted search (search.h).
#include "format/search.h"

#include <bit>
#include <cmath>
#include <initializer_list>

#include "format/half.h"
#include "format/lanes.h"

namespace fettle {
namespace {

inline f4 nearest(f4 y, const Levels& levels) {
  if (!levels.table) return round(clamp(y, splat(levels.lo), splat(levels.hi)));
  f4 t = clamp(y + y, splat(-255), splat(255)) + splat(256);
  const float* value = levels.table->value;
  return f4{value[int(t[0])], value[int(t[1])], value[int(t[2])], value[int(t[3])]};
}

struct ScaleSums {
  float xv, vv;
};
// Sums over the codes that 1 / scale = inverse gives.
ScaleSums scale_sums(const float* x, const float* w, int n, const Levels& levels, float inverse) {
  f4 xv{}, vv{};
  for (int j = 0; j < n; j += 4) {
    f4 v = nearest(load(x + j) * splat(inverse), levels), wv = load(w + j) * v;
    xv += wv * load(x + j);
    vv += wv * v;
  }
  return {sum(xv), sum(vv)};
}

struct AffineSums {
  float q, qq, xq;
};
AffineSums affine_sums(const float* x, const float* w, int n, float top, float inverse, float min) {
  f4 q1{}, qq{}, xq{};
  f4 offset = splat(-min * inverse);
  for (int j = 0; j < n; j += 4) {
    f4 q = round(clamp(load(x + j) * splat(inverse) + offset, f4{}, splat(top))), wq = load(w + j) * q;
    q1 += wq;
    qq += wq * q;
    xq += wq * load(x + j);
  }
  return {sum(q1), sum(qq), sum(xq)};
}

}  // namespace

uint16_t half_step(uint16_t half, int step) {
  int magnitude = (half & 0x7fff) + step;
  return magnitude < 0 || magnitude > 0x7bff ? half : uint16_t((half & 0x8000) | magnitude);
}

NearestLevel::NearestLevel(const uint8_t* biased_values) {
  for (int i = 0; i < 512; i++) {
    float y = 0.5f * float(i - 256) + 0.25f, best = 1e9f;  // the middle of the half-open cell
    for (int k = 0; k < 16; k++) {
      float v = float(int(biased_values[k]) - 128);
      if (std::fabs(v - y) < best) best = std::fabs(v - y), value[i] = v;
    }
  }
}

bool Sample::load(const float* weights, const float* importance, int count) {
  n = count;
  float largest = 0, heaviest = 0;
  for (int j = 0; j < n; j++) {
    float a = std::fabs(weights[j]);
    x[j] = a <= 3e38f ? weights[j] : a > 3e38f ? std::copysign(3e38f, weights[j]) : 0;  // NaN fails both comparisons
    a = std::fabs(x[j]);
    largest = a > largest ? a : largest;
  }
  if (!(largest > 1e-30f)) return false;
  if (importance)
    for (int j = 0; j < n; j++) heaviest = importance[j] > heaviest ? importance[j] : heaviest;
  heaviest = heaviest < 3e38f ? heaviest : 3e38f;
  unit = std::bit_cast<float>(std::bit_cast<uint32_t>(largest) & 0x7f800000u);
  inverse_unit = 1 / unit;
  float squares = 0, total = 0;
  for (int j = 0; j < n; j++) {
    x[j] *= inverse_unit;
    squares += x[j] * x[j];
  }
  const float variance = 2 * squares / float(n);
  const bool weighted = heaviest > 1e-30f;
  for (int j = 0; j < n; j++) {
    float i = weighted ? importance[j] : 1.0f;  // NOLINT: without importance nothing is weighted
    i = weighted ? (i > 0 ? (i < heaviest ? i : heaviest) / heaviest : 0) : 1;
    w[j] = i * std::sqrt(variance + x[j] * x[j]);
    total += w[j];
  }
  // a weight that matters to nobody still gets a sensible code, and sums never vanish
  const float floor = 1e-6f * total / float(n);
  for (int j = 0; j < n; j++) w[j] = w[j] > floor ? w[j] : floor;
  return true;
}

uint16_t Sample::half_of(float scale) const {
  float d = scale * unit;
  d = d > 65504.0f ? 65504.0f : d;
  d = d < -65504.0f ? -65504.0f : d;
  return half_bits(d);
}

float Sample::value_of(uint16_t half) const { return half_value(half) * inverse_unit; }

void nearest_levels(const float* x, int n, const Levels& levels, float scale, float* values) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  for (int j = 0; j < n; j += 4) store(values + j, nearest(load(x + j) * splat(inverse), levels));
}

float scale_error(const float* x, const float* w, int n, const Levels& levels, float scale) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  f4 error{};
  for (int j = 0; j < n; j += 4) {
    f4 e = load(x + j) - splat(scale) * nearest(load(x + j) * splat(inverse), levels);
    error += load(w + j) * e * e;
  }
  return sum(error);
}

float find_scale(const float* x, const float* w, int n, const Levels& levels) {
  float largest = 0;
  for (int j = 0; j < n; j++) largest = std::fabs(x[j]) > largest ? std::fabs(x[j]) : largest;
  if (!(largest > 1e-12f)) return 0;
  const float inner = std::fmin(-levels.lo, levels.hi), outer = std::fmax(-levels.lo, levels.hi);
  const float first = inner * 0.94f - 0.5f, last = outer * 1.12f + 0.9f;
  const int steps = levels.table ? 24 : 20;
  float best = -1, scale = 0;
  for (int i = 0; i <= steps; i++)
    for (float sign : {1.0f, -1.0f}) {
      const float inverse = sign * (first + (last - first) * float(i) / float(steps)) / largest;
      const auto [xv, vv] = scale_sums(x, w, n, levels, inverse);
      if (vv > 0 && xv * xv > best * vv) best = xv * xv / vv, scale = xv / vv;
    }
  for (int i = 0; i < 4 && scale != 0; i++) {
    const auto [xv, vv] = scale_sums(x, w, n, levels, 1 / scale);
    if (!(vv > 0) || xv * xv <= best * vv * 1.0000001f) break;
    best = xv * xv / vv;
    scale = xv / vv;
  }
  return scale;
}

void nearest_codes(const float* x, int n, float top, Affine a, uint8_t* codes) {
  const float inverse = a.scale > 0 ? 1 / a.scale : 0;
  float q[4];
  for (int j = 0; j < n; j += 4) {
    store(q, round(clamp((load(x + j) - splat(a.min)) * splat(inverse), f4{}, splat(top))));
    for (int k = 0; k < 4; k++) codes[j + k] = uint8_t(int(q[k]));
  }
}

float affine_error(const float* x, const float* w, int n, float top, Affine a) {
  const float inverse = a.scale > 0 ? 1 / a.scale : 0;
  f4 error{};
  for (int j = 0; j < n; j += 4) {
    f4 v = load(x + j) - splat(a.min), e = v - splat(a.scale) * round(clamp(v * splat(inverse), f4{}, splat(top)));
    error += load(w + j) * e * e;
  }
  return sum(error);
}

Affine find_affine(const float* x, const float* w, int n, float top, bool keep_min_negative) {
  float low = x[0], high = x[0], sw = 0, sx = 0;  // NOLINT: n > 0
  for (int j = 0; j < n; j++) {
    low = x[j] < low ? x[j] : low;
    high = x[j] > high ? x[j] : high;
    sw += w[j];
    sx += w[j] * x[j];
  }
  if (keep_min_negative && low > 0) low = 0;
  if (!(high - low > 1e-12f)) return {0, low};
  Affine best{(high - low) / top, low};
  float best_gain = -1e30f;
  // the closed form for the codes that `a` gives; keeps it when it explains more
  auto consider = [&](float inverse, float min) {
    const auto [q, qq, xq] = affine_sums(x, w, n, top, inverse, min);
    const float det = sw * qq - q * q;
    if (!(det > 0)) return false;
    Affine a{(sw * xq - sx * q) / det, (qq * sx - q * xq) / det};
    if (keep_min_negative && a.min > 0) a = {xq / qq, 0};
    const float gain = 2 * (a.scale * xq + a.min * sx) - a.scale * a.scale * qq - 2 * a.scale * a.min * q - a.min * a.min * sw;
    if (!(gain > best_gain) || !(a.scale > 0)) return false;
    best_gain = gain;
    best = a;
    return true;
  };
  const float first = top * 0.9f - 0.6f, last = top * 1.1f + 0.9f;
  constexpr int kSteps = 20;
  for (int i = 0; i <= kSteps; i++) {
    const float inverse = (first + (last - first) * float(i) / float(kSteps)) / (high - low);
    consider(inverse, low);
    if (inverse * (high - low) > top) consider(inverse, high - top / inverse);  // clip the low end instead
  }
  for (int i = 0; i < 4 && consider(1 / best.scale, best.min); i++) {
  }
  return best;
}

uint16_t encode_scaled(Sample& s, const Levels& levels, float* values) {
  const uint16_t rounded = s.half_of(find_scale(s.x, s.w, s.n, levels));
  uint16_t best = rounded;
  float best_error = INFINITY;
  for (int step : {0, 1, -1}) {
    const uint16_t half = half_step(rounded, step);
    const float error = scale_error(s.x, s.w, s.n, levels, s.value_of(half));
    if (error < best_error) best_error = error, best = half;
  }
  nearest_levels(s.x, s.n, levels, s.value_of(best), values);
  return best;
}

void encode_affine(Sample& s, float top, uint16_t* scale, uint16_t* min, uint8_t* codes) {
  // around the middle of the range, so that sums do not cancel when weights differ little from each other
  float low = s.x[0], high = s.x[0], centred[Sample::kMax];
  for (int j = 0; j < s.n; j++) {
    low = s.x[j] < low ? s.x[j] : low;
    high = s.x[j] > high ? s.x[j] : high;
  }
  const float middle = 0.5f * (low + high);
  for (int j = 0; j < s.n; j++) centred[j] = s.x[j] - middle;
  const Affine found = find_affine(centred, s.w, s.n, top, false), plain{(high - low) / top, low};
  float best_error = INFINITY;
  for (const Affine& a : {Affine{found.scale, found.min + middle}, plain}) {
    const uint16_t d = s.half_of(a.scale), m = s.half_of(a.min);
    for (int i = 0; i < 9; i++) {
      const uint16_t dd = half_step(d, i % 3 - 1), mm = half_step(m, i / 3 - 1);
      const float error = affine_error(s.x, s.w, s.n, top, {s.value_of(dd), s.value_of(mm)});
      if (error < best_error) best_error = error, *scale = dd, *min = mm;
    }
  }
  nearest_codes(s.x, s.n, top, {s.value_of(*scale), s.value_of(*min)}, codes);
}

}  // namespace fettle
