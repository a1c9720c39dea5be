// Schedules against their formulas, AdamW against PyTorch's.
#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>

namespace fettle {
namespace {

TEST(Optimizer, SchedulesFollowTheirFormulas) {
  TrainOptions o;
  o.lr = 2;
  o.warmup = 0.1;
  o.schedule = "cosine";
  EXPECT_DOUBLE_EQ(learning_rate(o, 0, 100), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(o, 9, 100), 2);
  EXPECT_DOUBLE_EQ(learning_rate(o, 10, 100), 2);
  EXPECT_NEAR(learning_rate(o, 55, 100), 1, 1e-12);
  EXPECT_NEAR(learning_rate(o, 99, 100), 1 + std::cos(std::numbers::pi * 89 / 90), 1e-12);
  o.schedule = "linear";
  EXPECT_NEAR(learning_rate(o, 55, 100), 1, 1e-12);
  EXPECT_NEAR(learning_rate(o, 91, 100), 0.2, 1e-12);
  o.schedule = "constant";
  EXPECT_DOUBLE_EQ(learning_rate(o, 99, 100), 2);
  o.warmup = 4;  // steps
  EXPECT_DOUBLE_EQ(learning_rate(o, 1, 100), 1);
  o.warmup = 0;
  EXPECT_DOUBLE_EQ(learning_rate(o, 0, 100), 2);
}

TEST(Optimizer, AdamWTakesPyTorchsSteps) {
  std::ifstream in(std::string(FETTLE_SOURCE_DIR) + "/tests/golden/adamw.json");
  const nlohmann::json golden = nlohmann::json::parse(in);
  Pool pool(1);
  for (const auto& c : golden["cases"]) {
    TrainOptions o;
    o.weight_decay = c["weight_decay"];
    o.beta1 = c["beta1"];
    o.beta2 = c["beta2"];
    o.epsilon = c["epsilon"];
    std::vector<float> value = c["start"], grad(value.size());
    AdamW adamw{int64_t(value.size())};
    const std::vector<Parameter> parameters{{"w", value, grad}};
    for (size_t s = 0; s < c["gradients"].size(); s++) {
      const std::vector<float> g = c["gradients"][s], expected = c["values"][s];
      std::copy(g.begin(), g.end(), grad.begin());
      const double norm = gradient_norm(parameters, pool), clip = c["clip"];
      EXPECT_NEAR(norm, c["norms"][s], 1e-5 * norm);
      adamw.update(parameters, o, int64_t(s) + 1, c["lr"], clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1.0, pool);
      for (size_t i = 0; i < value.size(); i++) EXPECT_NEAR(value[i], expected[i], 2e-6) << "step " << s << ", number " << i;
    }
  }
}

}  // namespace
}  // namespace fettle
