// Keys ARCH.rope.scaling.* and the tensors rope_freqs, rope_factors_short and rope_factors_long.
#include "model/rotation.h"

#include <algorithm>
#include <cmath>

#include "model/decoder.h"

namespace fettle {
namespace {

// Pairs that turn often within the trained length keep their frequency, those that turn less than once are slowed down by `factor`; between
// them a ramp. Where it begins and ends are the pairs that turn `fast` and `slow` times.
std::vector<float> yarn(int dims, float base, double factor, double original, double fast, double slow) {
  const auto pair_that_turns = [&](double times) { return dims * std::log(original / (times * 2 * M_PI)) / (2 * std::log(double(base))); };
  const double low = std::max(0.0, std::floor(pair_that_turns(fast)));
  const double high = std::min(dims - 1.0, std::ceil(pair_that_turns(slow)));
  std::vector<float> divisors;
  for (int i = 0; i < dims / 2; i++) {
    const double ramp = std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
    divisors.push_back(float(1 / (ramp / factor + 1 - ramp)));
  }
  return divisors;
}

}  // namespace

Rotation read_rotation(Model& model, float base) {
  const Gguf& file = *model.file;
  const Config& c = model.config;
  const std::string keys = c.architecture + ".rope.", place = file.path().string();
  const auto real = [&](const std::string& key, double fallback, double high = 1e6) {
    const double value = file.real(keys + key).value_or(fallback);
    if (!(value > 0 && value <= high)) throw refused(place, keys + key + " is impossible");
    return value;
  };
  const auto tensor = [&](const std::string& name) {
    const float* values = load_vector(model, name, c.rope_dims / 2);
    if (!std::all_of(values, values + c.rope_dims / 2, [](float v) { return v > 0; }))
      throw refused(place + ": tensor " + name, "holds a factor that is not positive");
    return std::vector<float>(values, values + c.rope_dims / 2);
  };
  Rotation r;
  r.original = int(real("scaling.original_context_length", c.context, kMaxContext));
  const std::string type = file.string(keys + "scaling.type").value_or("linear");
  const double factor = real("scaling.factor", real("scale_linear", 1));
  const size_t pairs = size_t(c.rope_dims / 2);
  if (type == "yarn") {
    r.divisors = yarn(c.rope_dims, base, factor, r.original, real("scaling.yarn_beta_fast", 32), real("scaling.yarn_beta_slow", 1));
    r.magnitude = float(std::max(1.0, 1 + 0.1 * std::log(factor)) * real("scaling.yarn_attn_factor", 1));
  } else if (type == "linear") {
    if (factor != 1) r.divisors.assign(pairs, float(factor));
  } else if (type != "none" && type != "longrope") {
    throw refused(place, "positions are scaled by '" + type + "', which fettle does not know",
                  "running it without would give wrong answers");
  }
  r.magnitude *= float(real("scaling.attn_factor", 1));
  if (file.find("rope_factors_short.weight")) {
    r.divisors = tensor("rope_factors_short.weight");
    r.long_divisors = tensor("rope_factors_long.weight");
  }
  if (file.find("rope_freqs.weight")) {
    const std::vector<float> more = tensor("rope_freqs.weight");
    r.divisors.resize(pairs, 1);
    for (size_t i = 0; i < pairs; i++) r.divisors[i] *= more[i];
  }
  return r;
}

}  // namespace fettle
