// Every operation against its plain reference on every instruction set that this machine runs, and every way back against numeric
// derivatives.
#include "op/op.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "format/format.h"
#include "format/test_blocks.h"
#include "op/kernels.h"
#include "op/panels.h"
#include "simd/isa.h"

namespace fettle {
namespace {

std::vector<float> randoms(size_t n, uint64_t seed, float scale = 1) {
  Random random(seed);
  std::vector<float> v(n + 16);
  for (float& x : v) x = scale * float(random.normal());
  return v;
}

// A weight of any format with the bytes it owns.
struct Weight {
  std::vector<std::byte> bytes;
  Linear linear;
  Weight(const char* format, int out, int in, uint64_t seed) {
    const Format* f = find_format(format);
    std::vector<float> w = randoms(size_t(out) * size_t(in), seed, 1 / std::sqrt(float(in)));
    bytes = test_blocks(*f, w.data(), int64_t(out) * in, seed);
    linear = Linear("w", Tensor{f, {out, in}, bytes});
  }
  std::vector<float> decoded() const {
    std::vector<float> w(size_t(linear.out) * size_t(linear.in));
    linear.weight.format->decode(bytes.data(), w.data(), int64_t(w.size()));
    return w;
  }
};

std::vector<double> plain_product(const float* x, int rows, const std::vector<float>& w, int out, int in) {
  std::vector<double> y(size_t(rows) * size_t(out));
  for (int r = 0; r < rows; r++)
    for (int o = 0; o < out; o++) {
      double s = 0;
      for (int i = 0; i < in; i++) s += double(x[r * in + i]) * w[size_t(o) * in + i];
      y[size_t(r) * out + o] = s;
    }
  return y;
}

// `size`: what truths are like; a lone one may be nearly zero.
double relative_error(const float* y, const std::vector<double>& truth, double size = 0) {
  double e = 0, n = 0;
  for (size_t i = 0; i < truth.size(); i++) e += (y[i] - truth[i]) * (y[i] - truth[i]), n += truth[i] * truth[i];
  return std::sqrt(e / std::max({n, size * size * double(truth.size()), 1e-30}));
}

class EachIsa : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override { set_isa(GetParam()); }
  void TearDown() override { set_isa(available_isas().back()); }
  Arena arena;
  Pool pool{2};
};
INSTANTIATE_TEST_SUITE_P(Isas, EachIsa, testing::ValuesIn(available_isas().begin(), available_isas().end()),
                         [](const auto& info) { return isa_name(info.param); });

TEST_P(EachIsa, LinearAgreesWithPlainProductForEveryFormatAndPrecision) {
  for (const Format* f : formats()) {
    const int in = f->block > 32 ? 512 : 96;
    for (int out : {1, 16, 50}) {
      Weight w(f->name, out, in, 3);
      for (int rows : {1, 2, 5, 37}) {
        std::vector<float> data = randoms(size_t(rows) * in, 4);
        const std::vector<double> truth = plain_product(data.data(), rows, w.decoded(), out, in);
        for (Precision precision : {Precision::exact, Precision::mixed, Precision::serving}) {
          fettle::Run run{arena, pool};
          run.precision = precision;
          Var x{data.data(), nullptr, rows, in};
          const double error = relative_error(linear(run, &x, w.linear)->data, truth, 1);
          const double limit = precision == Precision::exact ? 1e-5 : precision == Precision::mixed ? 8e-3 : 2e-2;
          EXPECT_LT(error, limit) << f->name << " out " << out << " rows " << rows << " precision " << int(precision);
          arena.reset();
        }
      }
    }
  }
}

// What serving makes of inputs: bytes with a scale per 32, rounded up to kScaleBits.
std::vector<float> as_bytes(const std::vector<float>& x, int64_t n) {
  std::vector<float> y(x.size());
  for (int64_t i = 0; i < n; i += 32) {
    float largest = 0;
    for (int64_t j = i; j < i + 32; j++) largest = std::max(largest, std::fabs(x[size_t(j)]));
    int exponent;
    const float mantissa = std::frexp(largest / 127, &exponent);
    const float scale = std::ldexp(std::ceil(std::ldexp(mantissa, kScaleBits)), exponent - kScaleBits), inverse = 1 / scale;
    for (int64_t j = i; j < i + 32 && largest > 0; j++) y[size_t(j)] = std::nearbyint(x[size_t(j)] * inverse) * scale;
  }
  return y;
}

// Integer products are exact but for the 16-bit rounding of scales; signs that all agree drive their sums as far as they go.
TEST_P(EachIsa, IntegerProductsAddUpExactlyEvenAtTheirLimits) {
  for (const Format* f : formats()) {
    if (!f->unpack) continue;
    const int in = f->block > 32 ? 512 : 96, out = 33;
    for (bool extreme : {false, true}) {
      Weight w(f->name, out, in, 3);
      std::vector<float> decoded = w.decoded();
      if (extreme && f->encode) {
        for (float& x : decoded) x = x > 0 ? 1.0f : -1.0f;
        f->encode(decoded.data(), w.bytes.data(), int64_t(decoded.size()), nullptr);
        decoded = w.decoded();
      }
      for (int rows : {1, 3, 4, 8, 17, 23}) {
        std::vector<float> data = randoms(size_t(rows) * size_t(in), 4);
        if (extreme)
          for (int i = 0; i < rows * in; i++) data[size_t(i)] = std::copysign(3.0f, decoded[size_t(i % (out * in))]);
        const std::vector<double> truth = plain_product(as_bytes(data, rows * in).data(), rows, decoded, out, in);
        fettle::Run run{arena, pool};
        Var x{data.data(), nullptr, rows, in};
        EXPECT_LT(relative_error(linear(run, &x, w.linear)->data, truth), 1e-3) << f->name << " rows " << rows << " extreme " << extreme;
        arena.reset();
      }
    }
  }
}

TEST_P(EachIsa, ServingIsTheSameBitsHoweverRowsAreBatched) {
  for (const char* format : {"Q4_1", "Q8_0", "Q6_K", "IQ4_NL", "IQ2_XS", "F32"}) {
    Weight w(format, 70, 256, 5);
    std::vector<float> data = randoms(9 * 256, 6);
    fettle::Run run{arena, pool};
    Var x{data.data(), nullptr, 9, 256};
    const float* together = linear(run, &x, w.linear)->data;
    for (int r = 0; r < 9; r++) {
      Var one{data.data() + r * 256, nullptr, 1, 256};
      const float* alone = linear(run, &one, w.linear)->data;
      for (int o = 0; o < 70; o++) ASSERT_EQ(alone[o], together[r * 70 + o]) << format << " row " << r;
    }
    arena.reset();
  }
}

struct Shapes {
  int heads = 6, kv_heads = 2, d = 32, window = 0;
};

// Attention of one sequence in doubles, as the definition says it.
std::vector<double> plain_attention(const float* q, const float* k, const float* v, int n, const Shapes& s) {
  std::vector<double> out(size_t(n) * s.heads * s.d);
  for (int t = 0; t < n; t++)
    for (int h = 0; h < s.heads; h++) {
      const int kv = h / (s.heads / s.kv_heads);
      std::vector<double> p(size_t(t) + 1, 0.0);
      double sum = 0;
      for (int u = s.window ? std::max(0, t + 1 - s.window) : 0; u <= t; u++) {
        double dot = 0;
        for (int i = 0; i < s.d; i++) dot += double(q[(t * s.heads + h) * s.d + i]) * k[(u * s.kv_heads + kv) * s.d + i];
        sum += p[size_t(u)] = std::exp(dot / std::sqrt(double(s.d)));
      }
      for (int u = 0; u <= t; u++)
        for (int i = 0; i < s.d; i++) out[size_t((t * s.heads + h) * s.d + i)] += p[size_t(u)] / sum * v[(u * s.kv_heads + kv) * s.d + i];
    }
  return out;
}

TEST_P(EachIsa, AttentionAgreesWithItsDefinitionInCacheAndOut) {
  for (int window : {0, 20}) {
    const Shapes s{6, 2, 32, window};
    const int n = 150;
    std::vector<float> q = randoms(size_t(n) * s.heads * s.d, 1), k = randoms(size_t(n) * s.kv_heads * s.d, 2),
                       v = randoms(size_t(n) * s.kv_heads * s.d, 3);
    const std::vector<double> truth = plain_attention(q.data(), k.data(), v.data(), n, s);
    const Attention shape{1, s.heads, s.kv_heads, s.d, window, 1 / std::sqrt(float(s.d))};
    std::vector<float> whole;
    for (const char* element : {"F32", "F16", ""}) {
      std::unique_ptr<KvCache> cache;
      if (*element) cache = std::make_unique<KvCache>(KvCache::Shape{2, s.kv_heads, s.d}, find_format(element), 3, 512);
      const std::vector<int> cuts = *element ? std::vector<int>{0, 7, 8, 90, n} : std::vector<int>{0, n};
      ASSERT_TRUE(!cache || cache->reserve(1, n));
      std::vector<float> got(size_t(n) * s.heads * s.d);
      for (size_t c = 0; c + 1 < cuts.size(); c++) {
        const int first = cuts[c], count = cuts[c + 1] - first;
        fettle::Run run{arena, pool, cache.get()};
        Batch batch;
        batch.add(cache ? 1 : 0, first, std::vector<int>(size_t(count), 0));
        Var vq{q.data() + first * s.heads * s.d, nullptr, count, s.heads * s.d},
            vk{k.data() + first * s.kv_heads * s.d, nullptr, count, s.kv_heads * s.d},
            vv{v.data() + first * s.kv_heads * s.d, nullptr, count, s.kv_heads * s.d};
        Var* out = attention(run, &vq, &vk, &vv, shape, batch);
        std::copy(out->data, out->data + out->count(), got.begin() + first * s.heads * s.d);
        arena.reset();
      }
      EXPECT_LT(relative_error(got.data(), truth), std::string(element) == "F16" ? 1e-3 : 1e-5) << element << " window " << window;
      if (std::string(element) == "F32") whole = got;
      if (!*element) {
        EXPECT_EQ(whole, got) << "cutting a prompt must not change a bit";
      }
    }
  }
}

// A prefix that several segments share, without a cache: to the last bit what whole rows give, and the gradients add up.
TEST_P(EachIsa, SharedPrefixesAreWholeRows) {
  for (int window : {0, 20}) {
    const Attention shape{0, 4, 2, 16, window, 0.25f};
    const int prefix = 71;
    const std::vector<int> tails = {5, 80, 1};
    Batch together;
    together.add(0, 0, std::vector<int>(size_t(prefix), 0), false);
    for (int n : tails) together.add_behind(0, std::vector<int>(size_t(n), 0));
    const int rows = together.rows();
    std::vector<float> q = randoms(size_t(rows) * 64, 1), k = randoms(size_t(rows) * 32, 2), v = randoms(size_t(rows) * 32, 3),
                       dout = randoms(size_t(rows) * 64, 4);
    std::fill(dout.begin(), dout.begin() + prefix * 64, 0.0f);
    // Output and gradients of q, k and v for a batch over the given rows of the data.
    const auto pass = [&](const Batch& batch, const std::vector<int>& from) {
      Tape tape;
      fettle::Run run{arena, pool};
      run.tape = &tape;
      Var* in[3];
      const std::vector<float>* data[] = {&q, &k, &v};
      for (int i = 0; i < 3; i++) {
        const int cols = i ? 32 : 64;
        in[i] = run.make(batch.rows(), cols);
        for (int r = 0; r < batch.rows(); r++) std::copy_n(data[i]->data() + from[size_t(r)] * cols, cols, in[i]->data + r * cols);
      }
      Var* out = attention(run, in[0], in[1], in[2], shape, batch);
      for (int r = 0; r < batch.rows(); r++) std::copy_n(dout.data() + from[size_t(r)] * 64, 64, tape.grad(*out) + r * 64);
      std::vector<std::vector<float>> results(4);
      tape.push([] {});
      results[0].assign(out->data, out->data + out->count());
      std::vector<float*> grads;
      for (Var* x : in) grads.push_back(tape.grad(*x));
      tape.backward();
      for (size_t i = 0; i < 3; i++) results[i + 1].assign(grads[i], grads[i] + in[i]->count());
      arena.reset();
      return results;
    };
    std::vector<int> all(static_cast<size_t>(rows));
    for (int r = 0; r < rows; r++) all[size_t(r)] = r;
    const auto shared = pass(together, all);
    std::vector<std::vector<double>> sums(4);
    for (size_t i = 0; i < 4; i++) sums[i].resize(shared[i].size());
    int first = prefix;
    for (int n : tails) {
      std::vector<int> from(all.begin(), all.begin() + prefix);
      from.insert(from.end(), all.begin() + first, all.begin() + first + n);
      Batch alone;
      alone.add(0, 0, std::vector<int>(from.size(), 0), false);
      const auto whole = pass(alone, from);
      for (size_t r = 0; r < from.size(); r++)
        for (size_t i = 0; i < 4; i++) {
          const int64_t cols = i == 0 || i == 1 ? 64 : 32;
          for (int64_t c = 0; c < cols; c++) {
            const float x = whole[i][r * size_t(cols) + size_t(c)];
            if (i == 0) {
              ASSERT_EQ(x, shared[0][size_t(from[r] * cols + c)]) << "row " << from[r];
            }
            sums[i][size_t(from[r] * cols + c)] += x;
          }
        }
      first += n;
    }
    for (size_t i = 1; i < 4; i++) EXPECT_LT(relative_error(shared[i].data(), sums[i]), 1e-6) << "gradient " << i << " window " << window;
  }
}

// A whole block of operations with a loss at the end, in f32: the gradient along random directions against central differences.
struct GradientCheck {
  Arena arena;
  Pool pool{2};
  Shapes s{4, 2, 16, 0};
  int d_model = 48, d_ff = 40, vocabulary = 70;
  Weight q{"F32", 64, 48, 1}, k{"F32", 32, 48, 2}, v{"F32", 32, 48, 3}, o{"F32", 48, 64, 4}, gate{"F32", 40, 48, 5}, up{"F32", 40, 48, 6},
      down{"F32", 48, 40, 7}, head{"F32", 70, 48, 8};
  std::vector<float> norm = randoms(48, 9), input = randoms(100 * 48, 10);
  Batch batch;
  std::vector<int> targets;

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
    add(run, stream, linear(run, attention(run, h[0], h[1], h[2], {0, 4, 2, 16, s.window, 0.25f}, batch), o.linear));
    Var* y = rmsnorm(run, stream, norm.data(), 1e-5f);
    add(run, stream, linear(run, swiglu(run, linear(run, y, gate.linear), linear(run, y, up.linear)), down.linear));
  }
  // Mean loss; with a tape also every gradient.
  double loss(Tape* tape, std::vector<float>* input_gradient = nullptr) {
    arena.reset();
    fettle::Run run{arena, pool};
    run.tape = tape;
    run.precision = Precision::exact;
    Var* stream = run.make(batch.rows(), d_model);
    std::copy(input.begin(), input.begin() + stream->count(), stream->data);
    for (int i = 0; i < 2; i++) run.block(stream, [&](Var* at) { block(run, at); });
    std::vector<int> rows;
    for (int i = 0; i < 20; i++) rows.push_back(i * 4);
    const double sum = cross_entropy(run, gather_rows(run, rmsnorm(run, stream, norm.data(), 1e-5f), rows), head.linear, targets, 1.0 / 20);
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
  for (int window : {0, 9})
    for (bool checkpoint : {false, true}) {
      GradientCheck c;
      c.s.window = window;
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
      check_direction(c, c.input, dx, "input");
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

TEST_P(EachIsa, CrossEntropyAgreesWithItsDefinition) {
  Weight head("F32", 131, 32, 1);
  std::vector<float> hidden = randoms(70 * 32, 2);
  std::vector<int> targets;
  for (int i = 0; i < 70; i++) targets.push_back(i * 7 % 131);
  fettle::Run run{arena, pool};
  run.precision = Precision::exact;
  Var x{hidden.data(), nullptr, 70, 32};
  const std::vector<double> logits = plain_product(hidden.data(), 70, head.decoded(), 131, 32);
  double truth = 0;
  for (int r = 0; r < 70; r++) {
    double sum = 0;
    for (int i = 0; i < 131; i++) sum += std::exp(logits[size_t(r * 131 + i)]);
    truth += std::log(sum) - logits[size_t(r * 131 + targets[size_t(r)])];
  }
  EXPECT_NEAR(cross_entropy(run, &x, head.linear, targets, 1), truth, 1e-4 * truth);
}

TEST_P(EachIsa, DistillationAgreesWithItsDefinition) {
  constexpr int rows = 66, vocabulary = 131;  // more than a chunk
  Weight head("F32", vocabulary, 32, 1), teacher_head("F32", vocabulary, 48, 2);
  std::vector<float> hidden = randoms(rows * 32, 3), taught = randoms(rows * 48, 4);
  const std::vector<double> wanted = plain_product(taught.data(), rows, teacher_head.decoded(), vocabulary, 48);
  const auto probabilities = [](const double* logits) {
    std::vector<double> p(vocabulary);
    double sum = 0;
    for (int i = 0; i < vocabulary; i++) sum += p[size_t(i)] = std::exp(logits[i]);
    for (double& x : p) x /= sum;
    return p;
  };
  const auto definition = [&] {
    const std::vector<double> logits = plain_product(hidden.data(), rows, head.decoded(), vocabulary, 32);
    double sum = 0;
    for (int r = 0; r < rows; r++) {
      const auto p = probabilities(&wanted[size_t(r * vocabulary)]), q = probabilities(&logits[size_t(r * vocabulary)]);
      for (size_t i = 0; i < vocabulary; i++) sum += p[i] * std::log(p[i] / q[i]);
    }
    return sum;
  };
  Tape tape;
  fettle::Run run{arena, pool};
  run.tape = &tape;
  run.precision = Precision::exact;
  Var x{hidden.data(), nullptr, rows, 32}, teacher{taught.data(), nullptr, rows, 48};
  x.needs_grad = true;
  const double truth = definition();
  EXPECT_NEAR(distillation(run, &x, head.linear, teacher, teacher_head.linear, 0.5), truth, 1e-4 * truth);
  const float* gradient = tape.grad(x);
  for (size_t at : {size_t(0), size_t(777), size_t(65 * 32 + 5)}) {
    const float was = hidden[at], h = 1e-3f;
    hidden[at] = was + h;
    const double above = definition();
    hidden[at] = was - h;
    const double below = definition();
    hidden[at] = was;
    EXPECT_NEAR(gradient[at], 0.5 * (above - below) / (2 * double(h)), 2e-4) << at;
  }
  EXPECT_NEAR(distillation(run, &teacher, teacher_head.linear, teacher, teacher_head.linear, 1), 0, 1e-3);
  arena.reset();
}

TEST(KvCache, SharesWholePagesAndCopiesTheLast) {
  KvCache cache({1, 1, 16}, find_format("F32"), 3, 256);
  ASSERT_TRUE(cache.reserve(0, 100));
  static_cast<float*>(cache.k(0, 0, 0, 0))[0] = 1;
  static_cast<float*>(cache.k(0, 0, 1, 0))[0] = 2;
  ASSERT_TRUE(cache.share(0, 1, 70));
  EXPECT_EQ(cache.k(0, 0, 0, 0), cache.k(0, 1, 0, 0));
  EXPECT_NE(cache.k(0, 0, 1, 0), cache.k(0, 1, 1, 0));
  EXPECT_EQ(static_cast<float*>(cache.k(0, 1, 1, 0))[0], 2);
  EXPECT_EQ(cache.free_tokens(), 64);
  EXPECT_FALSE(cache.reserve(2, 129));
  EXPECT_EQ(cache.free_tokens(), 64);
  cache.clear(0);
  EXPECT_EQ(cache.free_tokens(), 128);
  cache.clear_all();
  EXPECT_EQ(cache.free_tokens(), 256);
}

}  // namespace
}  // namespace fettle
