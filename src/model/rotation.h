// Positions beyond the lengths that a model was first trained on: what GGUF files say about it, as divisors of each pair's frequency and a
// factor of what is rotated. Private to the room.
#pragma once
#include <vector>

#include "model/model.h"

namespace fettle {

struct Rotation {
  std::vector<float> divisors;       // (rope_dims / 2) of each pair's frequency; empty: all 1
  std::vector<float> long_divisors;  // the same for sequences of more than `original` tokens; empty: no others
  int original = 0;
  float magnitude = 1;  // what is rotated becomes so many times as long
  // nullptr: all 1. longest: tokens that a sequence comes to.
  const float* factors(int longest) const {
    const std::vector<float>& chosen = longest > original && !long_divisors.empty() ? long_divisors : divisors;
    return chosen.empty() ? nullptr : chosen.data();
  }
};

// Linear (Chen et al. 2023), YaRN (Peng et al. 2023), Llama 3's frequency factors and LongRoPE (Ding et al. 2024), of rotations to this
// base. Error{refused}: any other way, impossible numbers.
Rotation read_rotation(Model& model, float base);

}  // namespace fettle
