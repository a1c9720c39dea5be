// Mixtures of experts: routing against its definitions, products of grouped rows against row by row, the way back against numeric
// derivatives.
#include "op/moe.h"

#include <map>

#include "op/test_operands.h"

namespace fettle {
namespace {

struct Routed {
  std::vector<int> experts;
  std::vector<float> weights;
};
Routed routed(const Routing& r, const std::vector<float>& logits) {
  Routed result{std::vector<int>(size_t(r.used)), std::vector<float>(size_t(r.used))};
  route(r, logits.data(), result.experts.data(), result.weights.data());
  return result;
}

void expect_weights(const Routed& r, const std::vector<int>& experts, const std::vector<double>& weights) {
  EXPECT_EQ(r.experts, experts);
  for (size_t i = 0; i < weights.size(); i++) EXPECT_NEAR(r.weights[i], weights[i], 1e-6) << i;
}

TEST_P(EachIsa, RoutingFollowsItsDefinition) {
  const std::vector<float> logits{0.5f, 2, -1, 2, 1, 0};
  double all = 0;
  for (float l : logits) all += std::exp(double(l));
  const double top = std::exp(2.0), third = std::exp(1.0);
  Routing r{Routing::softmax, 6, 3};
  expect_weights(routed(r, logits), {1, 3, 4}, {top / all, top / all, third / all});  // of equal ones the first
  r.renormalized = true;
  r.scale = 2.5f;
  const double chosen = 2 * top + third;
  expect_weights(routed(r, logits), {1, 3, 4}, {2.5 * top / chosen, 2.5 * top / chosen, 2.5 * third / chosen});
  r.gate = Routing::sigmoid;
  const double high = 1 / (1 + std::exp(-2.0)), low = 1 / (1 + std::exp(-1.0)), sum = 2 * high + low;
  expect_weights(routed(r, logits), {1, 3, 4}, {2.5 * high / sum, 2.5 * high / sum, 2.5 * low / sum});
  r.renormalized = false;
  expect_weights(routed(r, logits), {1, 3, 4}, {2.5 * high, 2.5 * high, 2.5 * low});
  r = {Routing::softmax, 6, 6};
  EXPECT_EQ(routed(r, logits).experts, (std::vector<int>{1, 3, 4, 0, 5, 2}));
  expect_weights(routed({Routing::sigmoid, 2, 1, true}, {-200, -300}), {0}, {0});
}

// What transformers' sparsemixer (5.x, not training) makes of these rows.
TEST(Routing, SparseMixerIsThatOfTransformers) {
  const Routing r{Routing::sparse_mixer, 5, 2};
  expect_weights(routed(r, {1, 0.99f, 0.985f, -0.3f, 0.5f}), {0, 1}, {0.33611616492271423, 0.5012499690055847});
  expect_weights(routed(r, {-1, -1.01f, -1.5f, -1.03f, -4}), {0, 1}, {0.5024999976158142, 0.5049998760223389});
  expect_weights(routed(r, {0.2f, 2, 2, 1.97f, 1}), {1, 2}, {0.3366498351097107, 0.5074993968009949});
  expect_weights(routed(r, {3, 1, 1, 0.985f, -2}), {0, 1}, {1, 0.3349958062171936});
}

// Experts of any format, and rows that go to them.
struct MixtureCase {
  static constexpr int kIn = 256, kWide = 512;
  Routing routing{Routing::softmax, 5, 2};
  std::vector<std::unique_ptr<Weight>> weights;
  std::vector<Expert> experts;
  std::vector<float> data, logits;
  int rows;
  MixtureCase(const char* format, int rows_, int in = kIn, int wide = kWide) : rows(rows_) {
    for (int e = 0; e < routing.experts; e++) {
      Expert expert;
      for (auto [linear, out, columns] : {std::tuple{&expert.gate, wide, in}, {&expert.up, wide, in}, {&expert.down, in, wide}}) {
        weights.push_back(std::make_unique<Weight>(format, out, columns, 10 + weights.size()));
        *linear = Linear("w", weights.back()->linear.weight);
      }
      experts.push_back(std::move(expert));
    }
    data = randoms(size_t(rows) * size_t(in), 4);
    logits = randoms(size_t(rows) * size_t(routing.experts), 5);
    for (int r = 0; r < rows; r++) logits[size_t(r * routing.experts) + 3] = -9;  // an expert that nobody wants
  }
  // Row by row, expert by expert, in double precision.
  std::vector<double> truth() const {
    const int in = experts[0].gate.in, wide = experts[0].gate.out;
    std::vector<std::vector<float>> plain;
    for (const auto& weight : weights) plain.push_back(weight->decoded());
    std::vector<double> y(size_t(rows) * size_t(in));
    for (int r = 0; r < rows; r++) {
      const Routed to = routed(routing, {logits.begin() + r * routing.experts, logits.begin() + (r + 1) * routing.experts});
      for (int s = 0; s < routing.used; s++) {
        const size_t e = size_t(to.experts[size_t(s)]) * 3;
        const auto gate = plain_product(data.data() + r * in, 1, plain[e], wide, in),
                   up = plain_product(data.data() + r * in, 1, plain[e + 1], wide, in);
        std::vector<float> middle;
        for (size_t i = 0; i < gate.size(); i++) middle.push_back(float(gate[i] / (1 + std::exp(-gate[i])) * up[i]));
        const auto down = plain_product(middle.data(), 1, plain[e + 2], in, wide);
        for (int i = 0; i < in; i++) y[size_t(r * in + i)] += double(to.weights[size_t(s)]) * down[size_t(i)];
      }
    }
    return y;
  }
  std::vector<float> mix(Arena& arena, Pool& pool, Precision precision, int first = 0, int count = -1, int generated = 0,
                         Tap* tap = nullptr) {
    arena.reset();
    fettle::Run run{arena, pool};
    run.precision = precision;
    run.generated = generated;
    run.tap = tap;
    if (count < 0) count = rows;
    Var x{data.data() + first * experts[0].gate.in, nullptr, count, experts[0].gate.in};
    Var l{logits.data() + first * routing.experts, nullptr, count, routing.experts};
    const Var* y = mixture(run, &x, &l, routing, experts);
    EXPECT_EQ(run.generated, generated);
    return {y->data, y->data + y->count()};
  }
};

// A case and its truth: encoding weights takes longer than all products, so that instruction sets share them.
struct KnownMixture {
  MixtureCase mixture;
  std::vector<double> truth = mixture.truth();
};
KnownMixture& known_mixture(const char* format) {
  static std::map<std::string, KnownMixture> cases;
  const auto found = cases.find(format);
  return found != cases.end() ? found->second : cases.emplace(format, KnownMixture{MixtureCase(format, 40)}).first->second;
}

TEST_P(EachIsa, MixturesAgreeWithRowByRowForFormatsAndPrecisions) {
  for (const char* format : {"F32", "BF16", "Q8_0", "Q4_1", "Q4_K", "Q6_K", "IQ4_NL"})
    for (int rows : {1, 3, 40}) {
      auto& [c, all] = known_mixture(format);
      const std::vector<double> truth(all.begin(), all.begin() + rows * MixtureCase::kIn);
      EXPECT_LT(relative_error(c.mix(arena, pool, Precision::exact, 0, rows).data(), truth), 1e-5) << format << " rows " << rows;
      EXPECT_LT(relative_error(c.mix(arena, pool, Precision::mixed, 0, rows).data(), truth), 1e-2) << format << " rows " << rows;
      EXPECT_LT(relative_error(c.mix(arena, pool, Precision::serving, 0, rows).data(), truth), 2e-2) << format << " rows " << rows;
      EXPECT_LT(relative_error(c.mix(arena, pool, Precision::serving, 0, rows, rows).data(), truth), 2e-2) << format << " rows " << rows;
    }
}

TEST_P(EachIsa, MixturesDoNotDependOnThreadsOrOnWhatElseIsInTheBatch) {
  for (const char* format : {"Q4_1", "Q4_K", "BF16"}) {
    constexpr int kRows = 45, kGenerated = 11;
    MixtureCase c(format, kRows);
    const std::vector<float> together = c.mix(arena, pool, Precision::serving, 0, kRows, kGenerated);
    for (int threads : {1, 3}) {
      Pool other(threads);
      EXPECT_EQ(c.mix(arena, other, Precision::serving, 0, kRows, kGenerated), together) << format << " " << threads;
    }
    std::vector<float> apart;
    for (int r = 0; r < kRows; r++) {
      const std::vector<float> one = c.mix(arena, pool, Precision::serving, r, 1, r < kGenerated);
      apart.insert(apart.end(), one.begin(), one.end());
    }
    EXPECT_EQ(apart, together) << format;
  }
}

TEST_P(EachIsa, TapsSeeTheRowsThatAnExpertGets) {
  struct Seen final : Tap {
    std::map<const Linear*, std::vector<float>> rows;
    void input(const Linear& linear, const float* x, int n) override { rows[&linear].assign(x, x + int64_t(n) * linear.in); }
  } seen;
  MixtureCase c("Q8_0", 20);
  const std::vector<float> tapped = c.mix(arena, pool, Precision::serving, 0, -1, 0, &seen);
  EXPECT_EQ(tapped, c.mix(arena, pool, Precision::serving)) << "looking changes nothing";
  ASSERT_EQ(seen.rows.size(), size_t(3 * c.routing.experts));
  for (int e = 0; e < c.routing.experts; e++) {
    std::vector<float> expected;
    for (int r = 0; r < c.rows; r++) {
      const Routed to = routed(c.routing, {c.logits.begin() + r * c.routing.experts, c.logits.begin() + (r + 1) * c.routing.experts});
      if (std::find(to.experts.begin(), to.experts.end(), e) != to.experts.end())
        expected.insert(expected.end(), c.data.begin() + r * MixtureCase::kIn, c.data.begin() + (r + 1) * MixtureCase::kIn);
    }
    EXPECT_EQ(expected.empty(), e == 3);
    EXPECT_EQ(seen.rows[&c.experts[size_t(e)].gate], expected);
    EXPECT_EQ(seen.rows[&c.experts[size_t(e)].up], expected);
    EXPECT_EQ(seen.rows[&c.experts[size_t(e)].down].size(), expected.size() * MixtureCase::kWide / MixtureCase::kIn);
  }
}

TEST(Mixtures, TimesAreCountedForActiveExpertsAlone) {
  Arena arena;
  Pool pool{2};
  OpTimes times;
  fettle::Run run{arena, pool};
  run.times = &times;
  MixtureCase c("Q8_0", 1);
  for (Expert& e : c.experts)
    e.gate.name = "blk.0.ffn_gate.7.weight", e.up.name = "blk.0.ffn_up.7.weight", e.down.name = "blk.0.ffn_down.7.weight";
  Var x{c.data.data(), nullptr, 1, MixtureCase::kIn}, logits{c.logits.data(), nullptr, 1, c.routing.experts};
  mixture(run, &x, &logits, c.routing, c.experts);
  const OpWork& wide = times.all().at(0).work;
  EXPECT_EQ(wide.name, "ffn_gate_exps+ffn_up_exps");
  EXPECT_EQ(wide.int8 + wide.bf16, 2.0 * 2 * 2 * MixtureCase::kIn * MixtureCase::kWide);
  EXPECT_EQ(wide.bytes, 4 * MixtureCase::kIn + 4.0 * MixtureCase::kIn * MixtureCase::kWide * 34 / 32 + 4 * 4 * MixtureCase::kWide);
}

// A mixture behind a router, and a shared expert behind its gate: with G the gradient that comes back, sum G y as the loss.
struct MixtureGradients {
  static constexpr int kIn = 24, kWide = 40, kRows = 13;
  MixtureCase c{"F32", kRows, kIn, kWide};
  Weight router{"F32", 5, kIn, 95}, shared{"F32", kIn, kIn, 91}, shared_gate{"F32", 1, kIn, 92};
  std::vector<float> back = randoms(kRows * kIn, 6);
  Precision precision = Precision::exact;
  Arena arena;
  Pool pool{2};
  explicit MixtureGradients(const Routing& routing, bool adapters) {
    c.routing = routing;
    router.linear.exact = true;
    if (!adapters) return;
    uint64_t seed = 100;
    const auto attach = [&](Linear& l) {
      l.adapter = std::make_unique<Adapter>(
          Adapter{3, 0.7f, randoms(size_t(3 * l.in), seed, 0.3f), randoms(size_t(3 * l.out), seed + 1, 0.3f), {}, {}});
      Adapter& a = *l.adapter;
      a.a.resize(size_t(3 * l.in)), a.b.resize(size_t(3 * l.out));
      a.da.assign(a.a.size(), 0), a.db.assign(a.b.size(), 0);
      seed += 2;
    };
    for (Expert& e : c.experts) attach(e.gate), attach(e.up), attach(e.down);
    attach(router.linear);
    attach(shared_gate.linear);
  }
  double loss(Tape* tape, std::vector<float>* dx = nullptr) {
    arena.reset();
    fettle::Run run{arena, pool};
    run.tape = tape;
    run.precision = precision;
    Var x{c.data.data(), nullptr, kRows, kIn};
    x.needs_grad = tape;
    Var* y = mixture(run, &x, linear(run, &x, router.linear), c.routing, c.experts);
    Var* always = linear(run, &x, shared.linear);
    gate_rows(run, always, linear(run, &x, shared_gate.linear));
    add(run, y, always);
    double sum = 0;
    for (int64_t i = 0; i < y->count(); i++) sum += double(back[size_t(i)]) * y->data[i];
    if (tape) {
      std::copy_n(back.data(), y->count(), tape->grad(*y));
      float* gradient = tape->grad(x);
      tape->backward();
      if (dx) dx->assign(gradient, gradient + x.count());
    }
    return sum;
  }
  void check(std::vector<float>& at, const std::vector<float>& gradient, const std::string& what) {
    const std::vector<float> kept = at, direction = randoms(gradient.size(), 77);
    double along = 0, norm = 0;
    for (size_t i = 0; i < gradient.size(); i++) along += double(gradient[i]) * direction[i], norm += double(direction[i]) * direction[i];
    const double h = 2e-3 / std::sqrt(norm);  // small, and with these random numbers no choice of experts changes
    double sums[2];
    for (int side = 0; side < 2; side++) {
      for (size_t i = 0; i < gradient.size(); i++) at[i] = kept[i] + float((side ? -h : h) * direction[i]);
      sums[side] = loss(nullptr);
    }
    at = kept;
    EXPECT_NEAR((sums[0] - sums[1]) / (2 * h), along, 1e-2 * std::max(std::fabs(along), std::sqrt(norm))) << what;
  }
};

std::vector<Routing> routings() {
  std::vector<Routing> list;
  for (Routing::Gate gate : {Routing::softmax, Routing::sigmoid})
    for (bool renormalized : {false, true}) list.push_back({gate, 5, 2, renormalized, 1.5f});
  list.push_back({Routing::sparse_mixer, 5, 2, false, 1, 0.3f});
  return list;
}

TEST_P(EachIsa, GradientsOfMixturesAgreeWithNumericDerivatives) {
  for (const Routing& routing : routings())
    for (bool adapters : {false, true}) {
      const std::string what = "gate " + std::to_string(routing.gate) + (routing.renormalized ? " renormalized" : "");
      MixtureGradients m(routing, adapters);
      Tape tape;
      std::vector<float> dx;
      m.loss(&tape, &dx);
      m.check(m.c.data, dx, what + ", input");
      if (!adapters) continue;
      const auto check = [&](const Linear& l, const std::string& name) {
        m.check(l.adapter->a, l.adapter->da, what + ", A of " + name);
        m.check(l.adapter->b, l.adapter->db, what + ", B of " + name);
      };
      check(m.router.linear, "router");
      check(m.shared_gate.linear, "the shared expert's gate");
      for (size_t e : {size_t(0), size_t(2)}) {
        check(m.c.experts[e].gate, "gate " + std::to_string(e));
        check(m.c.experts[e].up, "up " + std::to_string(e));
        check(m.c.experts[e].down, "down " + std::to_string(e));
      }
    }
}

TEST_P(EachIsa, GradientsOfMixturesInBf16AreThoseInF32ButForRounding) {
  MixtureGradients exact({Routing::softmax, 5, 2, true}, true), mixed({Routing::softmax, 5, 2, true}, true);
  mixed.precision = Precision::mixed;
  Tape tape, tape_mixed;
  std::vector<float> dx, dx_mixed;
  exact.loss(&tape, &dx);
  mixed.loss(&tape_mixed, &dx_mixed);
  const auto compare = [](const std::vector<float>& x, const std::vector<float>& truth) {
    EXPECT_LT(relative_error(x.data(), std::vector<double>(truth.begin(), truth.end())), 3e-2);
  };
  compare(dx_mixed, dx);
  for (size_t e = 0; e < 5; e++) {
    compare(mixed.c.experts[e].gate.adapter->da, exact.c.experts[e].gate.adapter->da);
    compare(mixed.c.experts[e].down.adapter->db, exact.c.experts[e].down.adapter->db);
  }
  compare(mixed.router.linear.adapter->da, exact.router.linear.adapter->da);
}

}  // namespace
}  // namespace fettle
