// Operations on rows against their definitions, on every instruction set that this machine runs.
#include "op/kernels.h"
#include "op/test_operands.h"

namespace fettle {
namespace {

constexpr int kRows = 5, kCols = 72;

struct Input {
  std::vector<float> data;
  Var var;
  explicit Input(uint64_t seed, float scale = 1)
      : data(randoms(size_t(kRows) * kCols, seed, scale)), var{data.data(), nullptr, kRows, kCols} {}
};

TEST_P(EachIsa, RmsnormAgreesWithItsDefinition) {
  const std::vector<float> weight = randoms(kCols, 2);
  for (int width : {0, 24, 8}) {
    Input x(1);
    fettle::Run run{arena, pool};
    const Var* y = rmsnorm(run, &x.var, weight.data(), 1e-3f, width);
    const int n = width ? width : kCols;
    std::vector<double> truth;
    for (int first = 0; first < kRows * kCols; first += n) {
      double squares = 0;
      for (int i = 0; i < n; i++) squares += double(x.data[size_t(first + i)]) * x.data[size_t(first + i)];
      for (int i = 0; i < n; i++) truth.push_back(x.data[size_t(first + i)] / std::sqrt(squares / n + 1e-3) * weight[size_t(i)]);
    }
    EXPECT_LT(relative_error(y->data, truth), 1e-6) << width;
    arena.reset();
  }
}

TEST_P(EachIsa, LayernormAgreesWithItsDefinition) {
  const std::vector<float> weight = randoms(kCols, 2), bias = randoms(kCols, 3);
  Input x(1);
  for (float& v : x.data) v += 4;
  fettle::Run run{arena, pool};
  const Var* y = layernorm(run, &x.var, weight.data(), bias.data(), 1e-3f);
  std::vector<double> truth;
  for (int first = 0; first < kRows * kCols; first += kCols) {
    double mean = 0, squares = 0;
    for (int i = 0; i < kCols; i++) mean += double(x.data[size_t(first + i)]) / kCols;
    for (int i = 0; i < kCols; i++) squares += std::pow(x.data[size_t(first + i)] - mean, 2);
    for (int i = 0; i < kCols; i++)
      truth.push_back((x.data[size_t(first + i)] - mean) / std::sqrt(squares / kCols + 1e-3) * weight[size_t(i)] + bias[size_t(i)]);
  }
  EXPECT_LT(relative_error(y->data, truth), 1e-6);
}

TEST_P(EachIsa, GatesAgreeWithTheirDefinitions) {
  Input gate(1, 3), up(2);
  gate.data[0] = 60, gate.data[1] = -60;
  fettle::Run run{arena, pool};
  std::vector<double> silu, gated_gelu, exact_gelu;
  for (size_t i = 0; i < size_t(kRows) * kCols; i++) {
    const double g = gate.data[i];
    exact_gelu.push_back(0.5 * g * std::erfc(-g / std::sqrt(2)));
    silu.push_back(g / (1 + std::exp(-g)) * up.data[i]);
    gated_gelu.push_back(0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) * up.data[i]);
  }
  EXPECT_LT(relative_error(swiglu(run, &gate.var, &up.var)->data, silu), 1e-6);
  EXPECT_LT(relative_error(geglu(run, &gate.var, &up.var)->data, gated_gelu), 1e-6);
  const Var* smooth = gelu(run, &gate.var);
  for (size_t i = 0; i < exact_gelu.size(); i++)
    ASSERT_NEAR(smooth->data[i], exact_gelu[i], 3e-7 * std::max(1.0f, std::fabs(gate.data[i])));
}

TEST_P(EachIsa, RotationsAgreeWithTheirDefinition) {
  const std::vector<float> factors = {1, 2, 5.5f};
  const std::vector<int> positions = {0, 3, 700, 1, 40};
  for (bool interleaved : {false, true}) {
    Input x(1);
    const std::vector<float> was = x.data;
    fettle::Run run{arena, pool};
    rope(run, &x.var, {9, 8, 6, 100, interleaved, factors.data(), 1.25f}, positions);
    std::vector<double> truth(was.begin(), was.end());
    for (int r = 0; r < kRows; r++)
      for (int h = 0; h < 9; h++)
        for (int i = 0; i < 3; i++) {
          const double angle = positions[size_t(r)] * std::pow(100.0, -2.0 * i / 6) / factors[size_t(i)];
          const size_t at = size_t(r * kCols + h * 8), a = at + size_t(interleaved ? 2 * i : i),
                       b = at + size_t(interleaved ? 2 * i + 1 : i + 3);
          truth[a] = 1.25 * (was[a] * std::cos(angle) - was[b] * std::sin(angle));
          truth[b] = 1.25 * (was[a] * std::sin(angle) + was[b] * std::cos(angle));
        }
    truth.resize(size_t(kRows) * kCols);
    EXPECT_LT(relative_error(x.data.data(), truth), 1e-6) << interleaved;
  }
}

TEST_P(EachIsa, SumsScalesAndColumnsAreExact) {
  Input x(1), y(2);
  const std::vector<float> was = y.data;
  fettle::Run run{arena, pool};
  add(run, &y.var, &x.var, 0.5f);
  scale(run, &y.var, 0.25f);
  for (size_t i = 0; i < size_t(kRows) * kCols; i++) ASSERT_FLOAT_EQ(y.data[i], 0.25f * (was[i] + 0.5f * x.data[i]));
  const Var* part = columns(run, &x.var, 7, 20);
  for (int r = 0; r < kRows; r++)
    for (int i = 0; i < 20; i++) ASSERT_EQ(part->data[r * 20 + i], x.data[size_t(r * kCols + 7 + i)]);
}

TEST_P(EachIsa, CappedLinearsAgreeWithTheirDefinition) {
  Weight w("F32", 70, kCols, 3);
  Input x(1);
  w.linear.soft_cap = 0.6f;
  fettle::Run run{arena, pool};
  run.precision = Precision::exact;
  std::vector<double> truth = plain_product(x.data.data(), kRows, w.decoded(), 70, kCols);
  for (double& y : truth) y = double(0.6f) * std::tanh(y / double(0.6f));
  EXPECT_LT(relative_error(linear(run, &x.var, w.linear)->data, truth), 1e-6);
  // the loss sees capped logits too
  const std::vector<int> targets = {0, 5, 69, 7, 8};
  double loss = 0;
  for (size_t r = 0; r < kRows; r++) {
    double sum = 0;
    for (size_t i = 0; i < 70; i++) sum += std::exp(truth[r * 70 + i]);
    loss += std::log(sum) - truth[r * 70 + size_t(targets[r])];
  }
  EXPECT_NEAR(cross_entropy(run, &x.var, w.linear, targets, 1), loss, 1e-5 * loss);
}

}  // namespace
}  // namespace fettle
