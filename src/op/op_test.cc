// Products and losses against their plain references on every instruction set that this machine runs.
#include "op/op.h"

#include "op/kernels.h"
#include "op/panels.h"
#include "op/test_operands.h"

namespace fettle {
namespace {

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

TEST_P(EachIsa, Bf16ProductsOfEveryShapeAddToWhatIsThere) {
  for (int in : {7, 64, 97, 130})
    for (int out : {1, 16, 33, 80}) {
      Weight w("BF16", out, in, 3);
      const Panels panels = make_bf16_panels(w.linear.weight, false, pool);
      for (int rows : {1, 15, 16, 17, 32, 33, 49, 111}) {
        const std::vector<float> data = randoms(size_t(rows) * size_t(in), 4), before = randoms(size_t(rows) * size_t(out), 5);
        std::vector<double> truth = plain_product(data.data(), rows, w.decoded(), out, in), sum = truth;
        for (size_t i = 0; i < sum.size(); i++) sum[i] += double(before[i]);
        fettle::Run run{arena, pool};
        std::vector<float> plain(before.size(), -1), added = before;
        multiply(run, data.data(), rows, panels, plain.data(), false);
        multiply(run, data.data(), rows, panels, added.data(), true);
        EXPECT_LT(relative_error(plain.data(), truth, 1), 6e-3) << in << " to " << out << ", rows " << rows;
        EXPECT_LT(relative_error(added.data(), sum, 1), 6e-3) << in << " to " << out << ", rows " << rows;
        for (size_t i = truth.size(); i < plain.size(); i++) ASSERT_EQ(plain[i], -1) << "nothing is written behind the result";
        arena.reset();
      }
    }
}

TEST_P(EachIsa, ExponentialsThatCountForNothingAreNone) {
  std::vector<float> x{0, -1, -30, -43, -59, -61, -80, -200, -1e6f};
  for (int i = 0; i < 20; i++) x.push_back(float(-i));  // a whole vector and a rest
  std::vector<float> e = x;
  e.resize(x.size() + 16);
  double sum = 0;
  const float found = kernels().exp_sum(e.data(), 1, int64_t(x.size()));
  for (size_t i = 0; i < x.size(); i++) {
    const double truth = std::exp(double(x[i]) - 1);
    sum += truth;
    if (truth > 1e-19) {
      EXPECT_NEAR(e[i] / truth, 1, 1e-6) << x[i];
    } else {
      EXPECT_LE(std::fabs(e[i] - truth), 1e-26) << x[i];
      EXPECT_TRUE(e[i] == 0 || std::isnormal(e[i])) << x[i];
    }
    if (x[i] < -60) {
      EXPECT_EQ(e[i], 0) << x[i];
    }
  }
  EXPECT_NEAR(found / sum, 1, 1e-6);
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
        run.generated = rows;
        Var x{data.data(), nullptr, rows, in};
        const double limit = f->rounded_table ? 7e-3 : 1e-3;
        EXPECT_LT(relative_error(linear(run, &x, w.linear)->data, truth), limit) << f->name << " rows " << rows << " extreme " << extreme;
        arena.reset();
      }
    }
  }
}

// Rows of answers and of prompts side by side: each is what it would be among its own.
TEST_P(EachIsa, RowsOfAnswersAndPromptsDoNotChangeEachOther) {
  constexpr int kOut = 70, kIn = 640, kRows = 21, kGenerated = 3;
  for (const char* format : {"Q4_1", "Q4_K", "Q6_K", "IQ4_NL", "Q8_0", "BF16"}) {
    Weight w(format, kOut, std::string_view(format).ends_with("_K") ? 768 : kIn, 5);
    const int in = w.linear.in;
    std::vector<float> data = randoms(size_t(kRows) * size_t(in), 6);
    const auto product = [&](int first, int rows, int generated) {
      fettle::Run run{arena, pool};
      run.generated = generated;
      Var x{data.data() + first * in, nullptr, rows, in};
      const Var* y = linear(run, &x, w.linear);
      std::vector<float> copy(y->data, y->data + y->count());
      arena.reset();
      return copy;
    };
    std::vector<float> together = product(0, kRows, kGenerated), apart = product(0, kGenerated, kGenerated);
    const std::vector<float> prompt = product(kGenerated, kRows - kGenerated, 0);
    apart.insert(apart.end(), prompt.begin(), prompt.end());
    EXPECT_EQ(together, apart) << format;
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

// The probe's rate of bytes is that of the products that multiply them, which take no tiles.
TEST(Probe, BytesOnTilesAreNotWhatKernelsUse) {
  for (Isa isa : available_isas()) {
    if (isa != Isa::amx) continue;
    set_isa(Isa::avx512_bf16);
    const Kernels& plain = kernels();
    set_isa(isa);
    EXPECT_EQ(kernels().peak(Arithmetic::int8, 3), plain.peak(Arithmetic::int8, 3));
    EXPECT_NE(kernels().peak(Arithmetic::bf16, 3), plain.peak(Arithmetic::bf16, 3));
  }
}

TEST(OpTimes, LinearsAreNamedByTheirRole) {
  Arena arena;
  Pool pool{2};
  OpTimes times;
  fettle::Run run{arena, pool};
  run.times = &times;
  Weight first("Q8_0", 20, 64, 1), second("F32", 30, 64, 2);
  std::vector<float> data = randoms(3 * 64, 3);
  Var x{data.data(), nullptr, 3, 64};
  Var* out[2];
  first.linear.name = "blk.12.attn_q.weight";
  second.linear.name = "blk.12.attn_k.weight";
  const Linear* both[] = {&first.linear, &second.linear};
  linear(run, &x, both, out);
  first.linear.name = "token_embd.weight";
  first.linear.adapter = std::make_unique<Adapter>(Adapter{2, 1, std::vector<float>(2 * 64), std::vector<float>(20 * 2), {}, {}});
  linear(run, &x, first.linear);
  linear(run, &x, first.linear);
  ASSERT_EQ(times.all().size(), 2u);
  const OpTime &two = times.all()[0], &head = times.all()[1];
  EXPECT_EQ(two.work.name, "attn_q+attn_k");
  EXPECT_EQ(two.calls, 1);
  EXPECT_EQ(two.work.f32, 0);
  EXPECT_EQ(two.work.int8 + two.work.bf16, 2 * 3 * 64 * (20 + 30));
  EXPECT_EQ(two.work.int8, codes_arithmetic(false) == Arithmetic::int8 ? 2 * 3 * 64 * 20 : 0);
  EXPECT_EQ(two.work.bytes, 4 * 3 * 64 + 20 * 64 * 34 / 32 + 4 * 30 * 64 + 4 * 3 * (20 + 30));
  EXPECT_EQ(head.work.name, "output");
  EXPECT_EQ(head.calls, 2);
  EXPECT_EQ(head.work.f32, 2 * (2 * 3 * 2 * (64 + 20)));
  EXPECT_EQ(head.work.bytes, 2 * (4 * 3 * 64 + 20 * 64 * 34 / 32 + 4 * 3 * 20 + 4 * 2 * (64 + 20)));
}

TEST(OpTimes, AttentionCountsTheKeysThatRowsSee) {
  Arena arena;
  Pool pool{2};
  std::vector<float> data = randoms(7 * 64, 3);
  Var q{data.data(), nullptr, 7, 64}, k{data.data(), nullptr, 7, 32}, v = k;
  Batch batch;  // five rows, and two more that begin with them
  batch.add(0, 0, std::vector<int>(5, 1));
  batch.add_behind(0, std::vector<int>(2, 1));
  for (const auto& [window, keys, read] : {std::tuple{0, 1 + 2 + 3 + 4 + 5 + 6 + 7, 5 + 7}, {3, 1 + 2 + 3 + 3 + 3 + 3 + 3, 5 + 4}}) {
    OpTimes times;
    fettle::Run run{arena, pool};
    run.times = &times;
    attention(run, &q, &k, &v, {0, 4, 2, 16, window, 0.25f}, batch);
    const OpWork& work = times.all().at(0).work;
    EXPECT_EQ(work.f32, 4 * keys * 64) << window;
    EXPECT_EQ(work.bytes, read * 2 * 32 * 4 + 4 * 7 * (2 * 64 + 2 * 32)) << window;
  }
}

}  // namespace
}  // namespace fettle
