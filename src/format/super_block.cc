// The joint fit of a super-block's scales (super_block.h). Plain f32 in a fixed order, as search.cc.
#include "format/super_block.h"

#include <algorithm>
#include <cmath>

#include "format/lanes.h"

namespace fettle {
namespace {

int nearest_factor(float ideal, float shared, int lowest, int highest) {
  if (shared == 0) return 0;
  const float f = ideal / shared;
  return int(std::lrint(std::fmin(std::fmax(f, float(lowest)), float(highest))));
}

// ---- one scale

struct ScaledFit {
  const Sample& s;
  const int group, lowest, highest;
  const Levels& levels;
  float ideal[kSuper / 16];

  int groups() const { return kSuper / group; }
  // The best factors for a shared scale, and the error that they leave.
  float factors_for(float shared, int* factors) const {
    float total = 0;
    for (int g = 0; g < groups(); g++) {
      const float *x = s.x + g * group, *w = s.w + g * group;
      const int middle = nearest_factor(ideal[g], shared, lowest, highest);
      float best = INFINITY;
      for (int f = std::max(lowest, middle - 1); f <= std::min(highest, middle + 1); f++) {
        const float error = scale_error(x, w, group, levels, shared * float(f));
        if (error < best) best = error, factors[g] = f;
      }
      total += best;
    }
    return total;
  }
  // The shared scale that is best for the codes that these factors give.
  float scale_for(float shared, const int* factors) const {
    f4 xv{}, vv{};
    float values[32];
    for (int g = 0; g < groups(); g++) {
      const float *x = s.x + g * group, *w = s.w + g * group;
      nearest_levels(x, group, levels, shared * float(factors[g]), values);
      for (int j = 0; j < group; j += 4) {
        const f4 v = load(values + j) * splat(float(factors[g])), wv = load(w + j) * v;
        xv += wv * load(x + j);
        vv += wv * v;
      }
    }
    return sum(vv) > 0 ? sum(xv) / sum(vv) : shared;
  }
};

// Which factor the largest of the groups' scales gets: its end of the range, a little inside, and the other end with the sign turned.
constexpr float kScaledEnds[] = {1.0f, 0.97f, 0.93f, 0.88f, -0.96f, -0.9f};

}  // namespace

ScaledSuper encode_super_scaled(const Sample& s, int group, const Levels& levels, int lowest, int highest) {
  ScaledFit fit{s, group, lowest, highest, levels, {}};
  float extreme = 0;
  for (int g = 0; g < fit.groups(); g++) {
    fit.ideal[g] = find_scale(s.x + g * group, s.w + g * group, group, levels);
    if (std::fabs(fit.ideal[g]) > std::fabs(extreme)) extreme = fit.ideal[g];
  }
  ScaledSuper best{}, trial{};
  float best_error = INFINITY;
  const auto consider = [&](uint16_t half) {
    trial.scale = half;
    const float error = fit.factors_for(s.value_of(half), trial.factors);
    if (error < best_error) best_error = error, best = trial;
    return error;
  };
  for (float end : kScaledEnds) {
    float shared = extreme / (float(lowest) * end), error = INFINITY;
    for (int round = 0; round < 3; round++) {
      const float now = consider(s.half_of(shared));
      if (!(now < error)) break;
      error = now;
      shared = fit.scale_for(s.value_of(trial.scale), trial.factors);
    }
  }
  const uint16_t found = best.scale;
  for (int step : {1, -1}) consider(half_step(found, step));
  for (int g = 0; g < fit.groups(); g++)
    nearest_levels(s.x + g * group, group, levels, s.value_of(best.scale) * float(best.factors[g]), best.levels + g * group);
  return best;
}

// ---- scale and min

namespace {

struct AffineFit {
  const Sample& s;
  const int group, most;
  const float top;
  Affine ideal[kSuper / 16];

  int groups() const { return kSuper / group; }
  Affine of(Affine shared, int factor, int min_factor) const { return {shared.scale * float(factor), -shared.min * float(min_factor)}; }

  float factors_for(Affine shared, AffineSuper& out) const {
    float total = 0;
    for (int g = 0; g < groups(); g++) {
      const float *x = s.x + g * group, *w = s.w + g * group;
      const int f = nearest_factor(ideal[g].scale, shared.scale, 0, most), m = nearest_factor(-ideal[g].min, shared.min, 0, most);
      float best = INFINITY;
      for (int ff = std::max(0, f - 1); ff <= std::min(most, f + 1); ff++)
        for (int mm = std::max(0, m - 1); mm <= std::min(most, m + 1); mm++) {
          const float error = affine_error(x, w, group, top, of(shared, ff, mm));
          if (error < best) best = error, out.factors[g] = ff, out.min_factors[g] = mm;
        }
      total += best;
    }
    return total;
  }

  // Least squares for the codes that these factors give: x ~ scale * u - min * v with u = factor * code, v = min factor.
  Affine scales_for(Affine shared, const AffineSuper& with) const {
    f4 uu{}, xu{}, uv{};
    float vv = 0, xv = 0;
    uint8_t codes[32];
    for (int g = 0; g < groups(); g++) {
      const float *x = s.x + g * group, *w = s.w + g * group;
      const float v = float(with.min_factors[g]), f = float(with.factors[g]);
      nearest_codes(x, group, top, of(shared, with.factors[g], with.min_factors[g]), codes);
      f4 ws{}, wx{};
      for (int j = 0; j < group; j += 4) {
        const f4 u = f4{float(codes[j]), float(codes[j + 1]), float(codes[j + 2]), float(codes[j + 3])} * splat(f);
        const f4 weight = load(w + j), wu = weight * u;
        uu += wu * u;
        xu += wu * load(x + j);
        uv += wu * splat(v);
        ws += weight;
        wx += weight * load(x + j);
      }
      vv += sum(ws) * v * v;
      xv += sum(wx) * v;
    }
    const float a = sum(uu), b = sum(uv), p = sum(xu), det = a * vv - b * b;
    if (!(a > 0)) return vv > 0 ? Affine{shared.scale, -xv / vv} : shared;
    if (!(det > 1e-6f * a * vv)) return {p / a, shared.min};
    const Affine found{(p * vv - b * xv) / det, (b * p - a * xv) / det};
    return found.scale > 0 && found.min >= 0 ? found : shared;
  }
};

constexpr float kAffineEnds[] = {1.0f, 0.93f, 0.86f};

}  // namespace

AffineSuper encode_super_affine(const Sample& s, int group, float top, int most) {
  AffineFit fit{s, group, most, top, {}};
  Affine extreme{0, 0};
  for (int g = 0; g < fit.groups(); g++) {
    fit.ideal[g] = find_affine(s.x + g * group, s.w + g * group, group, top, true);
    extreme = {std::fmax(extreme.scale, fit.ideal[g].scale), std::fmax(extreme.min, -fit.ideal[g].min)};
  }
  AffineSuper best{}, trial{};
  float best_error = INFINITY;
  const auto value = [&](const AffineSuper& a) { return Affine{s.value_of(a.scale), s.value_of(a.min)}; };
  const auto consider = [&](uint16_t scale, uint16_t min) {
    trial.scale = scale;
    trial.min = min;
    const float error = fit.factors_for(value(trial), trial);
    if (error < best_error) best_error = error, best = trial;
    return error;
  };
  for (float scale_end : kAffineEnds)
    for (float min_end : kAffineEnds) {
      Affine shared{extreme.scale / (float(most) * scale_end), extreme.min / (float(most) * min_end)};
      float error = INFINITY;
      for (int round = 0; round < 3; round++) {
        const float now = consider(s.half_of(shared.scale), s.half_of(shared.min));
        if (!(now < error)) break;
        error = now;
        shared = fit.scales_for(value(trial), trial);
      }
    }
  const AffineSuper found = best;
  for (int step : {1, -1}) {
    consider(half_step(found.scale, step), found.min);
    consider(found.scale, half_step(found.min, step));
  }
  for (int g = 0; g < fit.groups(); g++)
    nearest_codes(s.x + g * group, group, top, fit.of(value(best), best.factors[g], best.min_factors[g]), best.codes + g * group);
  return best;
}

}  // namespace fettle
