// Training on a tiny random model: the promises about order, parts, threads, resume and crashes.
#include "train/train.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "train/checkpoint.h"
#include "train/optimizer.h"
#include "train/parameters.h"
#include "train/pass.h"
#include "train/plan.h"
#include "train/test_run.h"

namespace fettle {
namespace {

std::vector<nlohmann::json> metrics(const fs::path& folder) {
  std::vector<nlohmann::json> lines;
  std::ifstream in(folder / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
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
