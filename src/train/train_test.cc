// Training on a tiny random model: gradients against numeric derivatives, and the promises about order, parts, threads, resume and crashes.
#include "train/train.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "../tests/tiny_model.h"
#include "train/checkpoint.h"
#include "train/optimizer.h"
#include "train/parameters.h"
#include "train/pass.h"
#include "train/plan.h"
#include "train/toy.h"

namespace fettle {
namespace {

class TrainTest : public testing::Test {
 protected:
  void SetUp() override {
    talk().quiet = true;
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::temp_directory_path() / ("fettle-train-" + std::to_string(::getpid()) + "-" + info->name());
    fs::create_directories(root_);
    TinyModel tiny;
    tiny.write(root_ / "tiny.gguf");
    model_ = Model::open(root_ / "tiny.gguf");
  }
  void TearDown() override {
    model_.reset();
    fs::remove_all(root_);
  }
  fs::path run(const std::string& name) const { return root_ / name; }
  std::shared_ptr<Model> fresh() const { return Model::open(root_ / "tiny.gguf"); }

  fs::path root_;
  std::shared_ptr<Model> model_;
};

std::vector<float> adapter_values(Model& model) {
  std::vector<float> all;
  for (Linear* l : model.linears())
    if (l->adapter) {
      all.insert(all.end(), l->adapter->a.begin(), l->adapter->a.end());
      all.insert(all.end(), l->adapter->b.begin(), l->adapter->b.end());
    }
  return all;
}

std::vector<nlohmann::json> metrics(const fs::path& folder) {
  std::vector<nlohmann::json> lines;
  std::ifstream in(folder / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

// ---- gradients

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

// ---- learning

TEST_F(TrainTest, LearnsAToyTask) {
  TrainOptions o = toy_options();
  o.epochs = 12;
  const TrainResult r = train(*model_, toy_rows(64), toy_rows(16, 99), o, run("a"), {});
  EXPECT_EQ(r.steps, 12 * 16);
  EXPECT_EQ(r.stopped_because, "epochs");
  EXPECT_GT(r.first_loss, 4);
  EXPECT_LT(r.last_loss, 0.2 * r.first_loss);
  EXPECT_LT(r.best_eval_loss, 0.5 * r.first_loss);
  Pool pool(1);
  EXPECT_DOUBLE_EQ(evaluate_loss(*model_, toy_rows(16, 99), Precision::exact, pool),
                   r.best_eval_loss);  // the best is what the model carries
  const auto lines = metrics(run("a"));
  ASSERT_EQ(lines.size(), size_t(r.steps));
  for (const char* key : {"step", "epoch", "tokens", "loss", "lr", "grad_norm", "seconds"}) EXPECT_TRUE(lines[0].contains(key)) << key;
  EXPECT_EQ(lines.back()["tokens"], r.tokens);
  EXPECT_TRUE(lines[15].contains("eval_loss"));
  EXPECT_FALSE(lines[14].contains("eval_loss"));
}

TEST_F(TrainTest, PartsOfAStepAddUpToTheSameGradient) {
  const std::vector<TokenRow> rows = toy_rows(7);
  TrainOptions o = toy_options();
  o.batch = 7;
  std::vector<Parameter> parameters = make_trainable(*model_, o);
  for (Parameter& p : parameters)
    for (size_t i = 0; i < p.value.size(); i++) p.value[i] += 0.01f * float(i % 7);
  Plan plan(rows, o, model_->config.vocabulary, model_->config.context);
  Pool pool(1);
  Pass pass(*model_, pool, Precision::exact, false);
  std::vector<std::vector<float>> gradients;
  std::vector<double> losses;
  for (int parts : {1, 3, 7, 20}) {
    for (Parameter& p : parameters) std::fill(p.grad.begin(), p.grad.end(), 0.0f);
    losses.push_back(pass.train(plan.step(0), parts, [] { return false; }));
    gradients.emplace_back();
    for (const Parameter& p : parameters) gradients.back().insert(gradients.back().end(), p.grad.begin(), p.grad.end());
  }
  for (size_t k = 1; k < gradients.size(); k++) {
    EXPECT_NEAR(losses[k], losses[0], 1e-5);
    double difference = 0, size = 0;
    for (size_t i = 0; i < gradients[0].size(); i++) {
      difference += std::pow(gradients[k][i] - gradients[0][i], 2);
      size += std::pow(gradients[0][i], 2);
    }
    EXPECT_LT(std::sqrt(difference / size), 1e-5);
  }
}

TEST_F(TrainTest, ThreadsChangeNothing) {
  const std::vector<TokenRow> rows = toy_rows(24);
  for (const Precision precision : {Precision::exact, Precision::mixed}) {
    TrainOptions o = toy_options();
    o.precision = precision;
    auto one = fresh(), two = fresh();
    const TrainResult a = train(*one, rows, toy_rows(5, 8), o, run("one"), {});
    o.threads = 2;
    const TrainResult b = train(*two, rows, toy_rows(5, 8), o, run("two"), {});
    EXPECT_EQ(adapter_values(*one), adapter_values(*two));
    EXPECT_EQ(a.last_loss, b.last_loss);
    EXPECT_EQ(a.best_eval_loss, b.best_eval_loss);
  }
}

// ---- starting, order, layout

TEST_F(TrainTest, AdaptersStartAsPeftStartsThem) {
  TrainOptions o = toy_options();
  o.seed = 7;
  make_trainable(*model_, o);
  const std::vector<float> first = adapter_values(*model_);
  for (Linear* l : model_->linears()) {
    const float bound = 1 / std::sqrt(float(l->in));
    double squares = 0;
    for (float x : l->adapter->a) {
      EXPECT_LE(std::fabs(x), bound);
      squares += double(x) * x;
    }
    EXPECT_NEAR(squares / double(l->adapter->a.size()), bound * bound / 3, 0.25 * bound * bound / 3) << l->name;
    for (float x : l->adapter->b) EXPECT_EQ(x, 0);
    EXPECT_EQ(l->adapter->scale, 2);
  }
  make_trainable(*model_, o);
  EXPECT_EQ(adapter_values(*model_), first);
  o.seed = 8;
  make_trainable(*model_, o);
  EXPECT_NE(adapter_values(*model_), first);
}

TEST_F(TrainTest, TargetsChooseLinears) {
  TrainOptions o = toy_options();
  o.targets = {"q_proj", "ffn_down"};
  const auto parameters = make_trainable(*model_, o);
  EXPECT_EQ(parameters.size(), 8u);  // 2 layers, 2 linears, A and B
  EXPECT_EQ(parameters[0].name, "blk.0.attn_q.weight.a");
  o.targets = {"attn_w"};
  try {
    make_trainable(*model_, o);
    FAIL() << "an unknown target must be refused";
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    EXPECT_NE(e.hint.find("attn_q"), std::string::npos);
  }
}

TEST_F(TrainTest, GoesOnFromAGivenAdapter) {
  TrainOptions o = toy_options();
  o.epochs = 2;
  train(*model_, toy_rows(16), {}, o, run("a"), {});
  const LoraFile lora = model_->lora(o.alpha);
  auto other = fresh();
  o.init_adapter = lora;
  o.lr = 1e-30;
  o.weight_decay = 0;
  train(*other, toy_rows(16), {}, o, run("b"), {});
  EXPECT_EQ(adapter_values(*other), adapter_values(*model_));
  o.init_adapter->pairs[0].name = "blk.7.attn_q.weight";
  EXPECT_THROW(train(*other, toy_rows(16), {}, o, run("c"), {}), Error);
}

// ---- stopping and going on

TEST_F(TrainTest, ResumedRunsTakeTheSameSteps) {
  const std::vector<TokenRow> rows = toy_rows(20), held_out = toy_rows(6, 77);
  for (const bool packed : {false, true}) {
    TrainOptions o = toy_options();
    o.epochs = 3;
    o.eval_every = 4;
    o.schedule = "cosine";
    o.warmup = 3;
    if (packed) o.pack_rows = 2, o.pack_tokens = 16;
    const std::string name = packed ? "packed" : "rows";
    auto whole = fresh(), first = fresh(), second = fresh();
    const TrainResult a = train(*whole, rows, held_out, o, run(name + "-whole"), {});
    const fs::path folder = run(name + "-parts");
    struct Stop {};
    EXPECT_THROW(train(*first, rows, held_out, o, folder,
                       [](const StepLog& log) {
                         if (log.step == 8) throw Stop{};  // as good as a crash: the last checkpoint is of step 6
                       }),
                 Stop);
    {
      std::ofstream torn(folder / "metrics.jsonl", std::ios::app);
      torn << "{\"step\": 9, \"lo";  // killed while writing
    }
    o.resume = true;
    int64_t began = 0;
    const TrainResult b = train(*second, rows, held_out, o, folder, [&](const StepLog& log) {
      if (!began) began = log.step;
    });
    EXPECT_EQ(began, 7);
    EXPECT_EQ(a.steps, b.steps);
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.first_loss, b.first_loss);
    EXPECT_EQ(a.last_loss, b.last_loss);
    EXPECT_EQ(a.best_eval_loss, b.best_eval_loss);
    EXPECT_EQ(adapter_values(*whole), adapter_values(*second));
    auto lines = metrics(run(name + "-whole")), again = metrics(folder);
    ASSERT_EQ(lines.size(), again.size());
    for (size_t i = 0; i < lines.size(); i++) {
      lines[i].erase("seconds");
      again[i].erase("seconds");
      EXPECT_EQ(lines[i], again[i]);
    }
    // A finished run has nothing left to do, and says the same.
    auto third = fresh();
    const TrainResult c = train(*third, rows, held_out, o, folder, [](const StepLog&) { FAIL() << "no step was left"; });
    EXPECT_EQ(c.stopped_because, "epochs");
    EXPECT_EQ(adapter_values(*third), adapter_values(*second));
    // Another learning rate is another run.
    o.lr = 1e-4;
    EXPECT_THROW(train(*third, rows, held_out, o, folder, {}), Error);
  }
}

TEST_F(TrainTest, StopsEarlyAndRestoresTheBest) {
  TrainOptions o = toy_options();
  o.lr = 0.02;
  o.epochs = 200;
  o.eval_every = 2;
  o.patience = 3;
  const std::vector<TokenRow> rows = toy_rows(4), held_out = toy_rows(8, 123);  // four rows: soon learned by heart
  const TrainResult r = train(*model_, rows, held_out, o, run("a"), {});
  EXPECT_EQ(r.stopped_because, "early-stop");
  EXPECT_LT(r.steps, 200);
  const auto lines = metrics(run("a"));
  double best = 1e9;
  int since = 0;
  for (const auto& line : lines)
    if (line.contains("eval_loss")) {
      since = line["eval_loss"] < best ? 0 : since + 1;
      best = std::min(best, line["eval_loss"].get<double>());
    }
  EXPECT_EQ(since, 3);
  EXPECT_EQ(r.best_eval_loss, best);
  Pool pool(1);
  EXPECT_EQ(evaluate_loss(*model_, held_out, o.precision, pool), best);
}

TEST_F(TrainTest, StopsWhenTheLossIsNoNumber) {
  TrainOptions o = toy_options();
  o.epochs = 5;
  o.shuffle = "none";
  const std::vector<TokenRow> rows = toy_rows(8);
  const auto spoil = [&](const StepLog& log) {
    if (log.step == 5) model_->linears()[3]->adapter->b[0] = std::numeric_limits<float>::quiet_NaN();
  };
  try {
    train(*model_, rows, {}, o, run("a"), spoil);
    FAIL() << "NaN must stop a run";
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::failed);
    EXPECT_EQ(e.place, "step 6");
    EXPECT_NE(std::string(e.what()).find("4, 5, 6, 7"), std::string::npos) << e.what();
    EXPECT_NE(e.hint.find("step 3"), std::string::npos) << e.hint;
  }
  EXPECT_EQ(metrics(run("a")).size(), 5u);
  ASSERT_TRUE(load_checkpoint(run("a")));
  EXPECT_EQ(load_checkpoint(run("a"))->state.step, 3);
}

TEST_F(TrainTest, StopsWhenTheLossDiverges) {
  TrainOptions o = toy_options();
  o.epochs = 12;
  const std::vector<TokenRow> rows = toy_rows(32);
  train(*model_, rows, {}, o, run("a"), {});
  o.init_adapter = model_->lora(o.alpha);  // begins at a low loss
  const auto spoil = [&](const StepLog& log) {
    if (log.step != 15) return;
    for (Linear* l : model_->linears()) std::fill(l->adapter->b.begin(), l->adapter->b.end(), 100.0f);
  };
  try {
    train(*model_, rows, {}, o, run("b"), spoil);
    FAIL() << "a diverging run must stop";
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::failed);
    EXPECT_NE(std::string(e.what()).find("diverged"), std::string::npos) << e.what();
  }
}

// A signal asks; the run saves and says so. In a process of its own, since the wish to stop cannot be taken back.
TEST_F(TrainTest, CtrlCSavesFirst) {
  TrainOptions o = toy_options();
  o.epochs = 3;
  o.checkpoint_every = 0;
  const std::vector<TokenRow> rows = toy_rows(16);
  const pid_t child = ::fork();
  if (child == 0) {
    install_interrupt_handler();
    int code = 1;
    try {
      train(*model_, rows, {}, o, run("a"), [](const StepLog& log) {
        if (log.step == 5) ::raise(SIGINT);
      });
    } catch (const Error& e) {
      code = int(e.code);
    }
    ::_exit(code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
  ASSERT_TRUE(load_checkpoint(run("a")));
  EXPECT_EQ(load_checkpoint(run("a"))->state.step, 5);
  o.resume = true;
  auto whole = fresh();
  train(*model_, rows, {}, o, run("a"), {});
  o.resume = false;
  train(*whole, rows, {}, o, run("b"), {});
  EXPECT_EQ(adapter_values(*model_), adapter_values(*whole));
}

TEST_F(TrainTest, KilledWhileSavingLeavesAWholeCheckpoint) {
  const fs::path folder = run("a");
  fs::create_directories(folder);
  Random random(11);
  int64_t newest = 0;
  for (int round = 0; round < 12; round++) {
    int told[2];
    ASSERT_EQ(::pipe(told), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      Checkpoint c;
      c.parameters = {{"w", 20000}};
      for (int64_t step = newest + 1;; step++) {
        c.state.step = step;
        c.values.assign(20000, float(step));
        c.first.assign(20000, float(step) + 1);
        c.second.assign(20000, float(step) + 2);
        save_checkpoint(folder, c);
        if (::write(told[1], &step, sizeof step) != sizeof step) ::_exit(1);
      }
    }
    int64_t step = 0, last = 0;
    ASSERT_EQ(::read(told[0], &step, sizeof step), ssize_t(sizeof step));  // one is whole; then at any time
    ::usleep(random.below(30000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(told[1]);
    last = step;
    while (::read(told[0], &step, sizeof step) == ssize_t(sizeof step)) last = step;
    ::close(told[0]);
    const std::optional<Checkpoint> c = load_checkpoint(folder);
    ASSERT_TRUE(c);
    EXPECT_GE(c->state.step, last);  // what was reported saved is not lost
    EXPECT_EQ(c->values, std::vector<float>(20000, float(c->state.step)));
    EXPECT_EQ(c->second, std::vector<float>(20000, float(c->state.step) + 2));
    newest = c->state.step;
    clean_checkpoints(folder, false);
    for (const auto& entry : fs::directory_iterator(folder)) EXPECT_EQ(entry.path().filename().string().find("tmp-"), std::string::npos);
  }
}

TEST_F(TrainTest, DamagedCheckpointsAreNoticed) {
  TrainOptions o = toy_options();
  o.epochs = 2;
  train(*model_, toy_rows(16), {}, o, run("a"), {});
  const int64_t newest = load_checkpoint(run("a"))->state.step;
  const auto damage = [](const fs::path& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(17);
    file.put('\x55');
  };
  damage(run("a") / "checkpoint" / "second.f32");
  ASSERT_TRUE(load_checkpoint(run("a")));
  EXPECT_LT(load_checkpoint(run("a"))->state.step, newest);  // the one before
  fs::resize_file(run("a") / "checkpoint.previous" / "state.json", 40);
  EXPECT_THROW(load_checkpoint(run("a")), Error);
  EXPECT_FALSE(load_checkpoint(run("nowhere")));
}

TEST_F(TrainTest, ImpossibleOptionsAreUsageErrors) {
  const std::vector<std::function<void(TrainOptions&)>> slips = {
      [](TrainOptions& o) { o.method = "dora"; },   [](TrainOptions& o) { o.rank = 0; },
      [](TrainOptions& o) { o.lr = -1; },           [](TrainOptions& o) { o.schedule = "cosines"; },
      [](TrainOptions& o) { o.batch = 0; },         [](TrainOptions& o) { o.pack_rows = 4; },
      [](TrainOptions& o) { o.shuffle = "never"; }, [](TrainOptions& o) { o.accumulate = 0; },
      [](TrainOptions& o) { o.beta1 = 1; },         [](TrainOptions& o) { o.epochs = 0; },
      [](TrainOptions& o) { o.alpha = 0; },         [](TrainOptions& o) { o.precision = Precision::serving; }};
  for (size_t i = 0; i < slips.size(); i++) {
    TrainOptions o = toy_options();
    slips[i](o);
    try {
      train(*model_, toy_rows(4), {}, o, run("a"), {});
      ADD_FAILURE() << "slip " << i << " was accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::usage) << i;
    }
  }
}

TEST_F(TrainTest, EstimatesWhatARunCounts) {
  TrainOptions o = toy_options();
  o.epochs = 2;
  const std::vector<TokenRow> rows = toy_rows(16);
  const TrainEstimate e = estimate_training(*model_, rows, o);
  const TrainResult r = train(*model_, rows, {}, o, run("a"), {});
  EXPECT_EQ(e.steps, r.steps);
  EXPECT_EQ(e.tokens, r.tokens);
  EXPECT_EQ(e.trained_parameters, r.trained_parameters);
  EXPECT_GT(e.seconds, 0);
  EXPECT_GT(e.memory_bytes, 0);
  EXPECT_GT(e.disk_bytes, double(r.trained_parameters) * 12);
  o.targets = {"q_proj", "ffn_down"};
  EXPECT_EQ(estimate_training(*model_, rows, o).trained_parameters, count(make_trainable(*model_, o)));
  o.targets = {"attn_w"};
  EXPECT_THROW(estimate_training(*model_, rows, o), Error) << "a dry run finds the slip that the run would";
}

}  // namespace
}  // namespace fettle
