// Every way back against numeric derivatives, on every instruction set that this machine runs.
#include "op/test_operands.h"

namespace fettle {
namespace {

// A whole block of operations with a loss at the end, in f32: the gradient along random directions against central differences.
struct GradientCheck {
  Arena arena;
  Pool pool{2};
  Shapes s{4, 2, 16, 0};
  int d_model = 48, d_ff = 40, vocabulary = 70;
  Weight q{"F32", 64, 48, 1}, k{"F32", 32, 48, 2}, v{"F32", 32, 48, 3}, o{"F32", 48, 64, 4}, gate{"F32", 40, 48, 5}, up{"F32", 40, 48, 6},
      down{"F32", 48, 40, 7}, head{"F32", 70, 48, 8};
  std::vector<float> factors = std::vector<float>(8, 3.0f), norm = randoms(48, 9), input = randoms(100 * 48, 10);
  Batch batch;
  std::vector<int> targets;
  Precision precision = Precision::exact;
  bool special = false;  // the block of operations that not every architecture has
  bool encoder = false;  // attention in both directions, exact GELU

  GradientCheck() {
    batch.add(0, 0, std::vector<int>(70, 0), false, true);
    batch.add(1, 0, std::vector<int>(11, 0), false, true);
    Random random(11);
    for (int i = 0; i < 20; i++) targets.push_back(int(random.below(70)));
    uint64_t seed = 20;
    for (Weight* w : {&q, &k, &v, &o, &gate, &up, &down}) {
      auto a = std::make_unique<Adapter>();
      a->rank = 3;
      a->scale = 0.7f;
      a->a = randoms(size_t(3) * w->linear.in, seed++, 0.3f);
      a->b = randoms(size_t(w->linear.out) * 3, seed++, 0.3f);
      a->a.resize(size_t(3) * w->linear.in);
      a->b.resize(size_t(w->linear.out) * 3);
      a->da.assign(a->a.size(), 0);
      a->db.assign(a->b.size(), 0);
      w->linear.adapter = std::move(a);
    }
  }
  void block(Run& run, Var* stream) {
    Var* x = rmsnorm(run, stream, norm.data(), 1e-5f);
    const Linear* list[] = {&q.linear, &k.linear, &v.linear};
    Var* h[3];
    linear(run, x, list, h);
    rope(run, h[0], {4, 16, 16, 100, true, nullptr}, batch.positions);
    rope(run, h[1], {2, 16, 8, 100, false, nullptr}, batch.positions);
    add(run, stream, linear(run, attention(run, h[0], h[1], h[2], {0, 4, 2, 16, s.window, 0.25f, 0, !encoder}, batch), o.linear));
    Var* y = rmsnorm(run, stream, norm.data(), 1e-5f);
    Var* inner = encoder ? gelu(run, linear(run, y, gate.linear)) : linear(run, y, gate.linear);
    add(run, stream, linear(run, swiglu(run, inner, linear(run, y, up.linear)), down.linear));
  }
  void special_block(Run& run, Var* stream) {
    Var* x = layernorm(run, stream, norm.data(), input.data(), 1e-5f);
    Var *query = linear(run, x, q.linear), *key = linear(run, x, k.linear);
    add(run, key, columns(run, query, 8, 32), -0.6f);
    query = rmsnorm(run, query, norm.data(), 1e-5f, 16), key = rmsnorm(run, key, norm.data() + 16, 1e-5f, 16);
    rope(run, query, {4, 16, 16, 100, false, factors.data(), 1.3f}, batch.positions);
    rope(run, key, {2, 16, 16, 100, false, factors.data(), 1.3f}, batch.positions);
    Var* seen = attention(run, query, key, linear(run, x, v.linear), {0, 4, 2, 16, s.window, 0.25f, 2.0f}, batch);
    add(run, stream, linear(run, seen, o.linear), 0.7f);
    Var* y = layernorm(run, stream, norm.data(), input.data(), 1e-5f);
    add(run, stream, linear(run, geglu(run, linear(run, y, gate.linear), linear(run, y, up.linear)), down.linear), 0.7f);
  }
  // Mean loss; with a tape also every gradient.
  double loss(Tape* tape, std::vector<float>* input_gradient = nullptr) {
    arena.reset();
    fettle::Run run{arena, pool};
    run.tape = tape;
    run.precision = precision;
    Var* stream = run.make(batch.rows(), d_model);
    std::copy(input.begin(), input.begin() + stream->count(), stream->data);
    for (int i = 0; i < 2; i++) run.block(stream, [&](Var* at) { special ? special_block(run, at) : block(run, at); });
    std::vector<int> rows;
    for (int i = 0; i < 20; i++) rows.push_back(i * 4);
    Var* states = rmsnorm(run, stream, norm.data(), 1e-5f);
    if (special) scale(run, states, 1.5f);
    head.linear.soft_cap = special ? 1.2f : 0;
    const double sum = cross_entropy(run, gather_rows(run, states, rows), head.linear, targets, 1.0 / 20);
    if (tape) {
      tape->push([] {});
      float* gradient = stream->grad;
      tape->backward();
      if (input_gradient)
        input_gradient->assign(gradient ? gradient : stream->grad, (gradient ? gradient : stream->grad) + stream->count());
    }
    return sum / 20;
  }
  std::vector<Weight*> trained() { return {&q, &k, &v, &o, &gate, &up, &down}; }
};

void check_direction(GradientCheck& c, std::vector<float>& at, const std::vector<float>& gradient, const char* what) {
  const std::vector<float> kept = at, direction = randoms(gradient.size(), 77);
  double norm = 0, along = 0;
  for (size_t i = 0; i < gradient.size(); i++) norm += double(direction[i]) * direction[i], along += double(gradient[i]) * direction[i];
  const double h = 3e-2 / std::sqrt(norm);
  for (size_t i = 0; i < gradient.size(); i++) at[i] = kept[i] + float(h * direction[i]);
  const double above = c.loss(nullptr);
  for (size_t i = 0; i < gradient.size(); i++) at[i] = kept[i] - float(h * direction[i]);
  const double below = c.loss(nullptr);
  at = kept;
  EXPECT_NEAR((above - below) / (2 * h), along, 2e-3 * std::sqrt(norm) * std::max(0.02, std::fabs(along) / std::sqrt(norm))) << what;
  EXPECT_GT(std::fabs(along), 0) << what;
}

TEST_P(EachIsa, GradientsAgreeWithNumericDerivatives) {
  for (auto [window, checkpoint, special, encoder] : {std::tuple(0, false, false, false),
                                                      {9, true, false, false},
                                                      {0, true, true, false},
                                                      {9, false, true, false},
                                                      {0, false, false, true}}) {
    GradientCheck c;
    c.s.window = window;
    c.special = special;
    c.encoder = encoder;
    Tape tape;
    tape.checkpoint_blocks = checkpoint;
    std::vector<float> dx;
    c.loss(&tape, &dx);
    const char* names[] = {"q", "k", "v", "o", "gate", "up", "down"};
    for (size_t i = 0; i < 7; i++) {
      Adapter& a = *c.trained()[i]->linear.adapter;
      check_direction(c, a.a, a.da, names[i]);
      check_direction(c, a.b, a.db, names[i]);
    }
    if (!special) check_direction(c, c.input, dx, "input");  // which is a bias there, too
  }
}

TEST_P(EachIsa, GradientsInBf16AreThoseInF32ButForRounding) {
  GradientCheck exact, mixed;
  mixed.precision = Precision::mixed;
  std::vector<float> dx, dx_mixed;
  Tape tape, tape_mixed;
  const double loss = exact.loss(&tape, &dx);
  EXPECT_NEAR(mixed.loss(&tape_mixed, &dx_mixed), loss, 1e-2 * loss);
  const auto compare = [](const std::vector<float>& x, const std::vector<float>& truth) {
    EXPECT_LT(relative_error(x.data(), std::vector<double>(truth.begin(), truth.end())), 3e-2);
  };
  compare(dx_mixed, dx);
  for (size_t i = 0; i < 7; i++) {
    const Adapter &a = *exact.trained()[i]->linear.adapter, &b = *mixed.trained()[i]->linear.adapter;
    compare(b.da, a.da);
    compare(b.db, a.db);
  }
}

// A linear whose outputs are capped, with the tape: as the head is where logits are wanted whole.
TEST_P(EachIsa, GradientsOfCappedLinearsAgreeWithNumericDerivatives) {
  Weight w("F32", 20, 32, 3);
  w.linear.soft_cap = 0.8f;
  std::vector<float> data = randoms(5 * 32, 4);
  const std::vector<float> dy = randoms(5 * 20, 5);
  const auto along = [&](std::vector<float>* dx) {
    Tape tape;
    fettle::Run run{arena, pool};
    run.tape = &tape;
    run.precision = Precision::exact;
    Var x{data.data(), nullptr, 5, 32};
    x.needs_grad = true;
    Var* y = linear(run, &x, w.linear);
    double sum = 0;
    for (int i = 0; i < 100; i++) sum += double(dy[size_t(i)]) * y->data[i];
    std::copy_n(dy.begin(), 100, tape.grad(*y));
    const float* gradient = tape.grad(x);
    tape.push([&] {});
    tape.backward();
    if (dx) dx->assign(gradient, gradient + x.count());
    arena.reset();
    return sum;
  };
  std::vector<float> dx;
  along(&dx);
  for (size_t at = 0; at < 5 * 32; at += 11) {
    const float kept = data[at], h = 1e-2f;
    data[at] = kept + h;
    const double above = along(nullptr);
    data[at] = kept - h;
    const double below = along(nullptr);
    data[at] = kept;
    EXPECT_NEAR(dx[at], (above - below) / (2 * double(h)), 2e-3) << at;
  }
}

// The gradient of every block's scale and min, for each format, against differences of the product itself.
TEST_P(EachIsa, GradientsOfScalesAgreeWithNumericDerivatives) {
  for (const Format* f : formats()) {
    if (f->scale_at < 0) continue;
    const int in = 256, out = 20, rows = 5;
    Weight w(f->name, out, in, 3);
    Linear& one = w.linear;
    one.scales = std::make_unique<TrainedScales>(one.weight);
    one.weight.bytes = one.scales->blocks;
    std::vector<float> data = randoms(size_t(rows) * in, 4);
    const std::vector<float> dy = randoms(size_t(rows) * out, 5);
    const auto along = [&](Tape* tape) {  // sum of dy * y
      for (int use = 0; use < Linear::uses; use++) one.drop_panels(Linear::Use(use));
      fettle::Run run{arena, pool};
      run.tape = tape;
      run.precision = Precision::exact;
      Var x{data.data(), nullptr, rows, in};
      Var* y = linear(run, &x, one);
      double sum = 0;
      for (int i = 0; i < rows * out; i++) sum += double(dy[size_t(i)]) * y->data[i];
      if (tape) {
        std::copy(dy.begin(), dy.end(), tape->grad(*y));
        tape->backward();
      }
      arena.reset();
      return sum;
    };
    Tape tape;
    along(&tape);
    double largest = 0;
    for (float g : one.scales->grad) largest = std::max(largest, std::fabs(double(g)));
    ASSERT_GT(largest, 0) << f->name;
    for (size_t at = 0; at < one.scales->value.size(); at += 1 + one.scales->value.size() / 12) {
      const float h = 0.25f;  // the product is linear in a scale, which is rounded to 16 bits
      double sums[2];
      for (int side = 0; side < 2; side++) {
        one.scales->value[at] = side ? -h : h;
        one.scales->apply();
        sums[side] = along(nullptr);
      }
      one.scales->value[at] = 0;
      one.scales->apply();
      EXPECT_NEAR((sums[0] - sums[1]) / (2 * h), one.scales->grad[at], 4e-3 * largest) << f->name << " " << at;
    }
    EXPECT_TRUE(std::ranges::equal(one.scales->blocks, one.scales->before.bytes)) << f->name;
  }
}

TEST_P(EachIsa, CheckpointedBlocksGiveTheSameGradients) {
  std::vector<float> gradients[2];
  for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
    GradientCheck c;
    Tape tape;
    tape.checkpoint_blocks = checkpoint;
    c.loss(&tape);
    for (Weight* w : c.trained()) {
      gradients[checkpoint].insert(gradients[checkpoint].end(), w->linear.adapter->da.begin(), w->linear.adapter->da.end());
      gradients[checkpoint].insert(gradients[checkpoint].end(), w->linear.adapter->db.begin(), w->linear.adapter->db.end());
    }
  }
  EXPECT_EQ(gradients[0], gradients[1]);
}

}  // namespace
}  // namespace fettle
