// Gradients of everything that is trained, against numeric derivatives and against whole rows.
#include <algorithm>
#include <cmath>

#include "train/parameters.h"
#include "train/pass.h"
#include "train/plan.h"
#include "train/test_run.h"

namespace fettle {
namespace {

// The whole model's loss with respect to single numbers of A and B, by central differences.
TEST_F(TrainTest, GradientsMatchNumericDerivatives) {
  for (const bool rebuilt : {false, true}) {
    TrainOptions o = toy_options();
    std::vector<Parameter> parameters = make_trainable(*model_, o);
    Random random(3);
    for (Parameter& p : parameters)  // B starts at zero, which would hide errors of dA
      for (float& x : p.value) x = 0.15f * float(random.normal());
    const std::vector<TokenRow> rows = toy_rows(5);
    o.batch = 5;
    Plan plan(rows, o, model_->config.vocabulary, model_->config.context);
    const Step step = plan.step(0);
    Pool pool(1);
    Pass pass(*model_, pool, Precision::exact, rebuilt);
    pass.train(step, 1, [] { return false; });
    int checked = 0;
    for (Parameter& p : parameters) {
      double largest = 0;
      for (float g : p.grad) largest = std::max(largest, double(std::fabs(g)));
      EXPECT_GT(largest, 0) << p.name;
      for (int i = 0; i < 2; i++) {
        const size_t at = random.below(uint32_t(p.value.size()));
        const float kept = p.value[at], h = 4e-3f;
        p.value[at] = kept + h;
        const double above = pass.evaluate(step.pieces);
        p.value[at] = kept - h;
        const double below = pass.evaluate(step.pieces);
        p.value[at] = kept;
        const double numeric = (above - below) / (2 * h) / double(step.trained);
        EXPECT_NEAR(p.grad[at], numeric, 0.02 * largest + 2e-4) << p.name << "[" << at << "]";
        checked++;
      }
    }
    EXPECT_EQ(checked, 2 * 2 * 14);
    end_training(*model_);
  }
}

// A model of experts learns with adapters on all of them and on its routers, and one whose experts are trained themselves as well.
TEST_F(TrainTest, ExpertsLearn) {
  TinyModel tiny;
  tiny.experts = 4;
  tiny.write(root_ / "experts.gguf");
  const std::vector<TokenRow> rows = toy_rows(24);
  for (const char* method : {"lora", "full"}) {
    auto model = Model::open(root_ / "experts.gguf");
    TrainOptions o = toy_options();
    o.method = method;
    o.epochs = 6;
    if (o.method == "full") {
      o.lr = 1e-3;
      o.targets = {"up_proj", "ffn_down"};
    }
    const TrainResult r = train(*model, rows, rows, o, run(method), nullptr);
    EXPECT_LT(r.last_loss, 0.8 * r.first_loss) << method;
    int adapters = 0, trained = 0;
    for (const Linear* l : model->linears()) {
      adapters += l->adapter != nullptr;
      trained += l->trained != nullptr;
    }
    EXPECT_EQ(adapters, o.method == "lora" ? 2 * (4 + 1 + 3 * 4) : 0);
    EXPECT_EQ(trained, o.method == "full" ? 2 * 2 * 4 : 0);
  }
  auto model = Model::open(root_ / "experts.gguf");
  EXPECT_EQ(chosen(*model, {"gate_proj"}).size(), 8u) << "routers are no gates";
  EXPECT_EQ(chosen(*model, {"ffn_gate_inp"}).size(), 2u);
  EXPECT_EQ(chosen(*model, {"ffn"}).size(), 2u * 13);
}

// On a quantized model the scales learn, and what is left is a model of the same codes.
TEST_F(TrainTest, ScalesLearnWhereCodesStay) {
  TinyModel tiny;
  tiny.format = "Q4_1";
  tiny.write(root_ / "quantized.gguf");
  auto model = Model::open(root_ / "quantized.gguf");
  TrainOptions o = toy_options();
  o.method = "scales";
  o.lr = 0.02;
  o.epochs = 12;
  const std::vector<TokenRow> rows = toy_rows(24);
  const TrainResult r = train(*model, rows, rows, o, run("scales"), nullptr);
  EXPECT_LT(r.last_loss, 0.8 * r.first_loss);
  const Gguf before(root_ / "quantized.gguf");
  for (Linear* l : model->linears()) {
    const Tensor& was = before.tensor(l->name);
    const Format& f = *was.format;
    const size_t n = size_t(was.shape.count());
    std::vector<uint8_t> codes[2];
    std::vector<float> scales[2];
    for (int i = 0; i < 2; i++) {
      std::vector<float> mins(n / size_t(f.group));
      codes[i].resize(n);
      scales[i].resize(mins.size());
      f.unpack(i ? l->weight.bytes.data() : was.bytes.data(), int64_t(n), codes[i].data(), scales[i].data(), mins.data());
    }
    EXPECT_EQ(codes[0], codes[1]) << l->name;
    EXPECT_NE(scales[0], scales[1]) << l->name;
  }
  o.method = "scales";
  EXPECT_THROW(train(*fresh(), rows, rows, o, run("floats"), nullptr), Error);
}

// What a teacher says is learned where no label says it: the teacher's letters are others than the labels.
TEST_F(TrainTest, TeachersAreFollowed) {
  TrainOptions o = toy_options();
  o.epochs = 12;
  std::vector<TokenRow> rows = toy_rows(24);
  auto teacher = fresh();
  train(*teacher, rows, {}, o, run("teacher"), nullptr);
  for (TokenRow& row : rows)
    for (int& label : row.labels)
      if (label >= 0) label = 10;
  Pool pool(1);
  EXPECT_NEAR(evaluate_loss(*teacher, rows, o.precision, pool, teacher.get()), 0, 1e-5);
  const double before = evaluate_loss(*model_, rows, o.precision, pool, teacher.get());
  o.teacher = teacher.get();
  const TrainResult r = train(*model_, rows, rows, o, run("student"), nullptr);
  EXPECT_LT(r.best_eval_loss, 0.2 * before);
  EXPECT_NEAR(evaluate_loss(*model_, rows, o.precision, pool, teacher.get()), r.best_eval_loss, 1e-9);

  teacher->head.out -= 3;  // as of another vocabulary
  EXPECT_THROW(train(*fresh(), rows, rows, o, run("stranger"), nullptr), Error);
}

// Rows behind one beginning: the same loss and the same gradient as row by row.
TEST_F(TrainTest, SharedBeginningsChangeNothing) {
  TrainOptions o = toy_options();
  o.batch = 6;
  std::vector<Parameter> parameters = make_trainable(*model_, o);
  Random random(3);
  for (Parameter& p : parameters)
    for (float& x : p.value) x = 0.15f * float(random.normal());
  std::vector<TokenRow> rows = toy_rows(6);
  std::vector<int> beginning;
  for (int i = 0; i < 67; i++) beginning.push_back(10 + int(random.below(60)));
  for (TokenRow& row : rows) {
    row.ids.insert(row.ids.begin(), beginning.begin(), beginning.end());
    row.labels.insert(row.labels.begin(), beginning.size(), -100);
  }
  Plan plan(rows, o, model_->config.vocabulary, model_->config.context);
  const Step step = plan.step(0);
  ASSERT_EQ(make_batch(step.pieces).batch.segments.size(), 7u);
  for (const bool rebuilt : {false, true}) {
    Pool pool(2);
    Pass pass(*model_, pool, Precision::exact, rebuilt);
    double loss[2];
    std::vector<float> gradient[2];
    for (int alone = 0; alone < 2; alone++) {
      for (Parameter& p : parameters) std::fill(p.grad.begin(), p.grad.end(), 0.0f);
      loss[alone] = pass.train(step, alone ? 6 : 1, [] { return false; });
      for (const Parameter& p : parameters) gradient[alone].insert(gradient[alone].end(), p.grad.begin(), p.grad.end());
    }
    EXPECT_NEAR(loss[0], loss[1], 1e-6);
    double error = 0, size = 0;
    for (size_t i = 0; i < gradient[0].size(); i++) {
      error += std::pow(double(gradient[0][i]) - gradient[1][i], 2);
      size += std::pow(double(gradient[1][i]), 2);
    }
    EXPECT_GT(size, 0);
    EXPECT_LT(std::sqrt(error / size), 1e-5);
  }
  end_training(*model_);
}

TEST_F(TrainTest, GradientsOfWeightsMatchNumericDerivatives) {
  TrainOptions o = toy_options();
  o.method = "full";
  o.batch = 5;
  std::vector<Parameter> parameters = make_trainable(*model_, o);
  ASSERT_EQ(parameters.size(), 14u);
  const std::vector<TokenRow> rows = toy_rows(5);
  Plan plan(rows, o, model_->config.vocabulary, model_->config.context);
  const Step step = plan.step(0);
  Pool pool(1);
  Pass pass(*model_, pool, Precision::exact, false);
  pass.train(step, 2, [] { return false; });
  Random random(4);
  const auto loss_with = [&](float& x, float value) {
    x = value;
    refresh(*model_);
    return pass.evaluate(step.pieces);
  };
  for (Parameter& p : parameters) {
    double largest = 0;
    for (float g : p.grad) largest = std::max(largest, double(std::fabs(g)));
    const size_t at = random.below(uint32_t(p.value.size()));
    const float kept = p.value[at], h = 1e-2f;
    const double numeric = (loss_with(p.value[at], kept + h) - loss_with(p.value[at], kept - h)) / (2 * h) / double(step.trained);
    loss_with(p.value[at], kept);
    EXPECT_NEAR(p.grad[at], numeric, 0.02 * largest + 2e-4) << p.name << "[" << at << "]";
  }
}

TEST_F(TrainTest, TrainsWeightsThemselves) {
  TrainOptions o = toy_options();
  o.method = "full";
  o.lr = 2e-3;
  o.epochs = 4;
  const std::vector<TokenRow> rows = toy_rows(32);
  const TrainResult r = train(*model_, rows, {}, o, run("a"), {});
  EXPECT_LT(r.last_loss, 0.5 * r.first_loss);
  Linear& some = *model_->linears()[5];
  EXPECT_EQ(some.weight.bytes.data(), reinterpret_cast<const std::byte*>(some.trained->value.data()));
  // Interrupted and continued: the same weights.
  auto first = fresh(), second = fresh();
  struct Stop {};
  EXPECT_THROW(train(*first, rows, {}, o, run("b"),
                     [](const StepLog& log) {
                       if (log.step == 10) throw Stop{};
                     }),
               Stop);
  o.resume = true;
  train(*second, rows, {}, o, run("b"), {});
  EXPECT_EQ(some.trained->value, second->linears()[5]->trained->value);
}

TEST_F(TrainTest, RebuiltBlocksGiveTheSameBits) {
  const std::vector<TokenRow> rows = toy_rows(8);
  TrainOptions o = toy_options();
  o.max_steps = 3;
  o.epochs = 9;
  train(*model_, rows, {}, o, run("kept"), {});
  auto other = fresh();
  o.memory_bytes = 1;  // nothing fits: blocks are rebuilt
  ASSERT_TRUE(needs_checkpoint_blocks(*other, o, 10));
  train(*other, rows, {}, o, run("rebuilt"), {});
  EXPECT_EQ(adapter_values(*model_), adapter_values(*other));
}

}  // namespace
}  // namespace fettle
