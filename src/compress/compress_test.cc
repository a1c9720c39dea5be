// Quantizing and measuring inputs on the tiny model, and the allocation against trying everything.
#include "compress/compress.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmath>
#include <csignal>

#include "compress/allocate.h"
#include "compress/rules.h"
#include "compress/test_files.h"

namespace fettle {
namespace {

TEST_F(CompressTest, EveryTypeGivesAModelThatOpens) {
  for (const std::string& type : quantize_types()) {
    QuantizeOptions options;
    options.type = type;
    const QuantizeResult result = run(options);
    EXPECT_EQ(result.bytes, fs::file_size(folder_ / "out.gguf")) << type;
    const auto model = Model::open(folder_ / "out.gguf");
    EXPECT_EQ(model->file->integer("general.file_type"), find_mix(type).file_type) << type;
    EXPECT_EQ(model->file->string("general.name"), "tiny");
    EXPECT_STREQ(model->file->tensor("output_norm.weight").format->name, "F32");
    for (const QuantizedTensor& q : result.tensors) {
      EXPECT_EQ(q.type, model->file->tensor(q.name).format->name);
      EXPECT_LT(q.relative_error, type == "Q2_K" ? 0.5 : 0.2) << type << " " << q.name;
    }
  }
}

TEST_F(CompressTest, ThreadsDoNotChangeAByte) {
  const std::vector<ImportanceEntry> measured = importance();
  for (uint64_t size : {uint64_t(0), uint64_t(80000)}) {
    QuantizeOptions options;
    options.type = "IQ4_NL";
    options.size_bytes = size;
    options.importance = &measured;
    run(options, "one.gguf", 1);
    run(options, "three.gguf", 3);
    EXPECT_EQ(bytes("one.gguf"), bytes("three.gguf"));
  }
  const std::vector<ImportanceEntry> alone = importance(1);
  ASSERT_EQ(alone.size(), measured.size());
  for (size_t i = 0; i < alone.size(); i++) EXPECT_EQ(alone[i].sum_squares, measured[i].sum_squares);
}

TEST_F(CompressTest, RowsOf576GetBlocksOf32AndItIsSaid) {
  use_rows_of_576();
  QuantizeOptions options;
  options.type = "Q4_K_M";
  const QuantizeResult result = run(options);
  bool said = false;
  for (const std::string& remark : result.remarks)
    said |= remark.find("Q4_K") != std::string::npos && remark.find("Q5_0") != std::string::npos;
  EXPECT_TRUE(said);
  for (const QuantizedTensor& q : result.tensors) {
    if (q.name == "blk.0.attn_q.weight") {
      EXPECT_EQ(q.asked, "Q4_K");
      EXPECT_EQ(q.type, "Q5_0");
    }
    if (q.name == "output.weight") {
      EXPECT_EQ(q.type, "Q8_0");
    }
  }
  Model::open(folder_ / "out.gguf");
}

TEST_F(CompressTest, SizeIsMetAndMoreRoomLosesLess) {
  double last = 1e30;
  for (uint64_t size : {75000u, 90000u, 120000u, 250000u}) {
    QuantizeOptions options;
    options.size_bytes = size;
    const QuantizeResult result = run(options);
    EXPECT_LE(fs::file_size(folder_ / "out.gguf"), size);
    EXPECT_EQ(result.bytes, fs::file_size(folder_ / "out.gguf"));
    EXPECT_GT(double(result.bytes), 0.8 * double(size));
    double lost = 0;
    for (const QuantizedTensor& q : result.tensors) lost += q.relative_error * q.relative_error;
    EXPECT_LT(lost, last);
    last = lost;
    Model::open(folder_ / "out.gguf");
  }
  QuantizeOptions options;
  options.size_bytes = 20000;
  EXPECT_NE(message([&] { run(options, "small.gguf"); }).find("no types make this model as small as 20.0 kB"), std::string::npos)
      << message([&] { run(options, "small.gguf"); });
  EXPECT_FALSE(fs::exists(folder_ / "small.gguf"));
}

TEST_F(CompressTest, ImportanceLowersTheWeightedError) {
  std::vector<ImportanceEntry> measured = importance();
  // Columns that matter very differently, as in real models.
  for (ImportanceEntry& e : measured)
    for (size_t i = 0; i < e.sum_squares.size(); i++) e.sum_squares[i] *= i % 7 == 0 ? 300 : 1;
  QuantizeOptions options;
  options.type = "Q4_0";
  run(options, "plain.gguf");
  options.importance = &measured;
  run(options, "weighted.gguf");
  options.method = "rtn";
  run(options, "rtn.gguf");
  const Gguf original(source_), plain(folder_ / "plain.gguf"), weighted(folder_ / "weighted.gguf"), rtn(folder_ / "rtn.gguf");
  int compared = 0;
  for (const ImportanceEntry& e : measured) {
    if (std::string(weighted.tensor(e.name).format->name) != "Q4_0") continue;
    compared++;
    EXPECT_LT(weighted_error(original, weighted, e), 0.9 * weighted_error(original, plain, e)) << e.name;
    EXPECT_EQ(weights(rtn, e.name), weights(plain, e.name));  // this method does not look at importance
  }
  EXPECT_GE(compared, 12);
}

TEST_F(CompressTest, ImportanceIsTheSumOfSquaredInputs) {
  const std::shared_ptr<Model> model = Model::open(source_);
  Pool pool(2);
  const std::vector<std::vector<int>> rows{{1, 2, 3, 4, 5}, {9, 8, 7}};
  size_t last = 0;
  const auto entries = Calibration(model, rows, pool, [&](size_t done, size_t) { last = done; }, {}).importance();
  EXPECT_EQ(last, 2u);
  ASSERT_EQ(entries.size(), model->linears().size() + 1);
  EXPECT_EQ(entries.back().name, "output.weight");
  for (const ImportanceEntry& e : entries) {
    EXPECT_EQ(e.tokens, 8) << e.name;
    const int in = e.name == "output.weight" ? model->head.in : model->find_linear(e.name)->in;
    ASSERT_EQ(e.sum_squares.size(), size_t(in));
  }
  // The first block's q, k and v read the normed embeddings: computed here by hand.
  const std::vector<float> table = weights(*model->file, "token_embd.weight"), norm = weights(*model->file, "blk.0.attn_norm.weight");
  std::vector<double> expected(64);
  for (const auto& row : rows)
    for (int id : row) {
      double square = 0;
      for (size_t i = 0; i < 64; i++) square += std::pow(table[size_t(id) * 64 + i], 2) / 64;
      for (size_t i = 0; i < 64; i++) expected[i] += std::pow(table[size_t(id) * 64 + i] * norm[i], 2) / (square + 1e-5);
    }
  for (const ImportanceEntry& e : entries) {
    if (e.name != "blk.0.attn_q.weight" && e.name != "blk.0.attn_v.weight") continue;
    for (size_t i = 0; i < 64; i++) EXPECT_NEAR(e.sum_squares[i], expected[i], 1e-3 * expected[i]);
  }
  EXPECT_NE(message([&] { Calibration(model, {{}, {}}, pool, {}, {}); }).find("no tokens"), std::string::npos);
  EXPECT_NE(message([&] { Calibration(model, {{1, 5000}}, pool, {}, {}); }).find("row 1"), std::string::npos);
}

// Experts have importance of their own, and a stack's rows are encoded by it.
TEST_F(CompressTest, ExpertsAreMeasuredAndQuantizedOneByOne) {
  TinyModel{.experts = 5}.write(source_);
  Pool pool(2);
  const std::shared_ptr<Model> model = Model::open(source_);
  std::vector<ImportanceEntry> measured = Calibration(model, token_rows(), pool, {}, {}).importance();
  ASSERT_EQ(measured.size(), model->linears().size() + 1);
  double rows = 0, sum = 0;
  const auto entry = [&](const std::string& name) {
    return std::find_if(measured.begin(), measured.end(), [&](const ImportanceEntry& e) { return e.name == name; });
  };
  for (int e = 0; e < 5; e++) {
    const ImportanceEntry &gate = *entry(expert_name("blk.0.ffn_gate_exps.weight", e)),
                          &up = *entry(expert_name("blk.0.ffn_up_exps.weight", e)),
                          &down = *entry(expert_name("blk.0.ffn_down_exps.weight", e));
    EXPECT_EQ(gate.sum_squares, up.sum_squares);
    EXPECT_EQ(gate.tokens, down.tokens);
    EXPECT_EQ(down.sum_squares.size(), 128u);
    rows += gate.tokens;
    sum += gate.sum_squares[7];
  }
  const ImportanceEntry& all = *entry("blk.0.ffn_gate_inp.weight");
  EXPECT_EQ(all.tokens, 348);
  EXPECT_EQ(rows, 2 * all.tokens);
  EXPECT_GT(sum, all.sum_squares[7]);

  write_imatrix(folder_ / "imatrix.gguf", measured, "test");
  EXPECT_EQ(Gguf(folder_ / "imatrix.gguf").tensor("blk.0.ffn_up_exps.weight.in_sum2").shape, (Shape{5, 64}));
  EXPECT_EQ(Gguf(folder_ / "imatrix.gguf").tensor("blk.0.ffn_up_exps.weight.counts").shape, (Shape{5, 1}));
  const std::vector<ImportanceEntry> read = read_imatrix(folder_ / "imatrix.gguf");
  ASSERT_EQ(read.size(), measured.size());
  for (const ImportanceEntry& e : read) EXPECT_EQ(e.tokens, entry(e.name)->tokens) << e.name;

  // one expert's inputs are like no other's, and nothing came to another one
  ImportanceEntry &odd = *entry("blk.0.ffn_gate.2.weight"), &idle = *entry("blk.0.ffn_gate.4.weight");
  for (size_t i = 0; i < odd.sum_squares.size(); i++) odd.sum_squares[i] *= i % 7 == 0 ? 300 : 1;
  idle = {idle.name, std::vector<double>(64), 0};
  QuantizeOptions options;
  options.type = "Q4_0";
  run(options, "plain.gguf");
  options.importance = &measured;
  run(options, "weighted.gguf");
  const Gguf original(source_), plain(folder_ / "plain.gguf"), weighted(folder_ / "weighted.gguf");
  EXPECT_STREQ(weighted.tensor("blk.0.ffn_gate_inp.weight").format->name, "F32");
  const auto error = [&](const Gguf& file) {
    const std::vector<float> x = weights(original, "blk.0.ffn_gate_exps.weight"), y = weights(file, "blk.0.ffn_gate_exps.weight");
    double lost = 0;
    for (size_t i = 0; i < 128 * 64; i++)
      lost += odd.sum_squares[i % 64] * std::pow(double(x[2 * 128 * 64 + i]) - double(y[2 * 128 * 64 + i]), 2);
    return lost;
  };
  EXPECT_LT(error(weighted), 0.9 * error(plain));
  for (const char* type : {"Q4_K_M", "IQ4_NL"}) {
    options.type = type;
    EXPECT_EQ(run(options).bytes, fs::file_size(folder_ / "out.gguf"));
    Model::open(folder_ / "out.gguf");
  }
  options.type.clear();
  options.size_bytes = 300000;
  EXPECT_LE(run(options).bytes, options.size_bytes);
  Model::open(folder_ / "out.gguf");
}

TEST_F(CompressTest, OverridesAndTheirSlips) {
  QuantizeOptions options;
  options.type = "Q8_0";
  options.overrides = {{"ffn", "Q4_0"}, {"blk.1.ffn_down", "Q5_1"}, {"token_embd", "F16"}};
  run(options);
  const Gguf file(folder_ / "out.gguf");
  EXPECT_STREQ(file.tensor("blk.0.ffn_up.weight").format->name, "Q4_0");
  EXPECT_STREQ(file.tensor("blk.1.ffn_down.weight").format->name, "Q5_1");
  EXPECT_STREQ(file.tensor("token_embd.weight").format->name, "F16");
  EXPECT_STREQ(file.tensor("blk.0.attn_q.weight").format->name, "Q8_0");
  EXPECT_STREQ(file.tensor("blk.0.ffn_norm.weight").format->name, "F32");
  options.overrides = {{"no_such", "Q4_0"}};
  EXPECT_NE(message([&] { run(options); }).find("no weight's name contains 'no_such'"), std::string::npos);
  options.overrides = {{"ffn", "Q4_9"}};
  EXPECT_NE(message([&] { run(options); }).find("there is no type 'Q4_9'"), std::string::npos);
  options.overrides = {{"ffn", "Q4_K_M"}};
  EXPECT_NE(message([&] { run(options); }).find("one tensor needs one format"), std::string::npos);
  options.overrides.clear();
  options.type = "Q4_K_N";
  EXPECT_NE(message([&] { run(options); }).find("did you mean"), std::string::npos);
  options.type = "iq3_s";
  EXPECT_NE(message([&] { run(options); }).find("reads IQ3_S but does not write it"), std::string::npos);
  options.type = "Q8_0";
  options.method = "weigthed";
  EXPECT_NE(message([&] { run(options); }).find("did you mean 'weighted'"), std::string::npos);
}

TEST_F(CompressTest, WhatHasTheTypeAlreadyIsCopiedAndRequantizingIsSaid) {
  QuantizeOptions options;
  options.type = "Q4_1";
  options.overrides = {{"output", "Q8_0"}};
  run(options, "first.gguf");
  source_ = folder_ / "first.gguf";
  const QuantizeResult again = run(options, "second.gguf");
  EXPECT_EQ(bytes("first.gguf"), bytes("second.gguf"));
  EXPECT_TRUE(again.remarks.empty()) << again.remarks.front();
  options.type = "Q5_0";
  const QuantizeResult other = run(options, "third.gguf");
  ASSERT_FALSE(other.remarks.empty());
  EXPECT_NE(other.remarks.back().find("quantized already (Q4_1"), std::string::npos) << other.remarks.back();
}

TEST_F(CompressTest, RefusesWhatIsNoModelAndItself) {
  QuantizeOptions options;
  options.type = "Q8_0";
  EXPECT_NE(message([&] { run(options, "tiny.gguf"); }).find("same file"), std::string::npos);
  GgufWriter writer;
  writer.set_string("general.type", "adapter");
  const std::vector<float> w(32, 1.0f);
  writer.add("x.weight", find_format("F32"), {1, 32}, [&] { return std::as_bytes(std::span(w)); });
  writer.write(folder_ / "adapter.gguf");
  source_ = folder_ / "adapter.gguf";
  EXPECT_NE(message([&] { run(options); }).find("'adapter'"), std::string::npos);
}

TEST_F(CompressTest, WeightsThatAreNotFiniteAreRefused) {
  GgufWriter writer;
  writer.set_string("general.architecture", "llama");
  std::vector<float> w(64, 1.0f);
  w[40] = std::nanf("");
  writer.add("blk.0.attn_q.weight", find_format("F32"), {2, 32}, [&] { return std::as_bytes(std::span(w)); });
  writer.write(folder_ / "nan.gguf");
  source_ = folder_ / "nan.gguf";
  QuantizeOptions options;
  for (const char* type : {"Q8_0", "F32"}) {  // encoded, copied
    options.type = type;
    const std::string text = message([&] { run(options); });
    EXPECT_NE(text.find("blk.0.attn_q.weight"), std::string::npos) << text;
    EXPECT_NE(text.find("not finite"), std::string::npos) << text;
  }
  EXPECT_EQ(files(), (std::set<std::string>{"tiny.gguf", "nan.gguf"}));
}

TEST_F(CompressTest, ImportanceOfAnotherShapeIsRefused) {
  std::vector<ImportanceEntry> measured = importance();
  measured[0].sum_squares.resize(7);
  QuantizeOptions options;
  options.type = "Q8_0";
  options.importance = &measured;
  EXPECT_NE(message([&] { run(options); }).find("measure importance on this very model"), std::string::npos);
}

// The disk takes 40 kB of the file and then no more.
TEST_F(CompressTest, AFullDiskLeavesWhatWasThere) {
  write_text(folder_ / "out.gguf", "what was there");
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{40000, 40000};
    setrlimit(RLIMIT_FSIZE, &limit);
    QuantizeOptions options;
    options.type = "Q8_0";
    const std::string text = message([&] { run(options); });
    _exit(text.find("no error") == std::string::npos ? 7 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(bytes("out.gguf"), "what was there");
  EXPECT_EQ(files(), (std::set<std::string>{"tiny.gguf", "out.gguf"}));
}

TEST_F(CompressTest, KilledHalfWayLeavesWhatWasThere) {
  write_text(folder_ / "out.gguf", "what was there");
  const pid_t child = fork();
  if (child == 0) {
    Pool pool(2);
    QuantizeOptions options;
    options.type = "Q8_0";
    quantize(source_, folder_ / "out.gguf", options, pool, [&](uint64_t done, uint64_t total) {
      if (done > total / 2) raise(SIGKILL);
    });
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(bytes("out.gguf"), "what was there");
}

// Keeps what every linear read.
struct Recorder final : Tap {
  std::map<std::string, std::vector<float>> seen;
  void input(const Linear& linear, const float* x, int rows) override {
    std::vector<float>& all = seen[linear.name];
    all.insert(all.end(), x, x + int64_t(rows) * linear.in);
  }
};

TEST_F(CompressTest, CovarianceIsThatOfTheInputsWhateverTheBudget) {
  Pool pool(2);
  const std::shared_ptr<Model> model = Model::open(source_);
  Recorder recorder;
  for (const auto& ids : token_rows()) {
    Arena arena;
    fettle::Run pass{arena, pool, nullptr, nullptr, &recorder, Precision::serving};
    Batch batch;
    batch.add(0, 0, ids, false);
    const Var* states = model->network->hidden(pass, batch);
    recorder.input(model->head, states->data, states->rows);
  }
  Calibration all = calibration(2), few = calibration(1, {.tokens = 16384, .bytes = 40000});
  for (const auto& [name, x] : recorder.seen) {
    const size_t in = size_t(name == "output.weight" ? model->head.in : model->find_linear(name)->in);
    const float* h = all.covariance(name, pool);
    ASSERT_TRUE(h) << name;
    for (size_t i = 0; i < in; i++)
      for (size_t j = i; j < in; j++) {
        double sum = 0, scale = 0;
        for (size_t t = 0; t < x.size(); t += in) sum += double(x[t + i]) * x[t + j], scale += std::fabs(double(x[t + i]) * x[t + j]);
        ASSERT_NEAR(h[i * in + j], sum, 1e-3 * scale + 1e-6) << name;
      }
    const float* again = few.covariance(name, pool);
    ASSERT_TRUE(again) << name;
    for (size_t i = 0; i < in; i++)
      for (size_t j = i; j < in; j++) ASSERT_EQ(h[i * in + j], again[i * in + j]) << name;
  }
  EXPECT_EQ(all.covariance("blk.7.attn_q.weight", pool), nullptr);
}

TEST_F(CompressTest, ManyRowsAreThinnedOut) {
  Pool pool(2);
  const std::vector<std::vector<int>> rows(100, std::vector<int>(10, 7));
  for (const ImportanceEntry& e : Calibration(Model::open(source_), rows, pool, {}, {.tokens = 200, .bytes = 1 << 20}).importance())
    EXPECT_NEAR(e.tokens, 200, 10);
}

TEST(Allocate, IsNearTheBestOfAll) {
  Random random(11);
  for (int trial = 0; trial < 50; trial++) {
    std::vector<std::vector<TypeOption>> tensors(4);
    for (auto& options : tensors)
      for (int o = 0; o < 5; o++) options.push_back({32 * (1 + random.below(60)), random.uniform() * 10});
    uint64_t least = 0;
    for (const auto& options : tensors)
      least += std::min_element(options.begin(), options.end(), [](const TypeOption& a, const TypeOption& b) {
                 return a.bytes < b.bytes;
               })->bytes;
    const uint64_t limit = least + random.below(3000);
    double best = 1e30, worst = 0;
    for (int code = 0; code < 625; code++) {
      uint64_t bytes = 0;
      double loss = 0;
      for (int t = 0, c = code; t < 4; t++, c /= 5) {
        bytes += tensors[size_t(t)][size_t(c % 5)].bytes;
        loss += tensors[size_t(t)][size_t(c % 5)].loss;
      }
      if (bytes > limit) continue;
      best = std::min(best, loss);
      worst = std::max(worst, loss);
    }
    const auto chosen = allocate(tensors, limit);
    ASSERT_TRUE(chosen);
    uint64_t bytes = 0;
    double loss = 0;
    for (size_t t = 0; t < 4; t++) {
      bytes += tensors[t][(*chosen)[t]].bytes;
      loss += tensors[t][(*chosen)[t]].loss;
    }
    EXPECT_LE(bytes, limit);
    EXPECT_LE(loss - best, 0.35 * (worst - best) + 1e-9);
    EXPECT_FALSE(allocate(tensors, least - 1));
  }
}

TEST(Rules, FollowTheUsualExceptions) {
  Anatomy a{32, 4, false, true};
  const auto type = [&](const char* mix, const std::string& tensor) { return wanted_type(find_mix(mix), tensor, a); };
  EXPECT_EQ(type("Q4_K_M", "output.weight"), "Q6_K");
  EXPECT_EQ(type("Q4_K_M", "token_embd.weight"), "Q4_K");
  EXPECT_EQ(type("Q4_K_M", "blk.0.attn_v.weight"), "Q6_K");
  EXPECT_EQ(type("Q4_K_M", "blk.4.ffn_down.weight"), "Q4_K");
  EXPECT_EQ(type("Q4_K_M", "blk.6.ffn_down.weight"), "Q6_K");
  EXPECT_EQ(type("Q4_K_M", "blk.31.ffn_down.weight"), "Q6_K");
  EXPECT_EQ(type("Q4_K_M", "blk.5.attn_q.weight"), "Q4_K");
  EXPECT_EQ(type("Q4_K_S", "blk.3.attn_v.weight"), "Q5_K");
  EXPECT_EQ(type("Q2_K", "blk.9.attn_v.weight"), "Q4_K");
  EXPECT_EQ(type("Q3_K_L", "blk.9.attn_output.weight"), "Q5_K");
  EXPECT_EQ(type("Q4_0", "blk.0.ffn_down.weight"), "Q4_1");
  EXPECT_EQ(type("Q8_0", "output.weight"), "Q8_0");
  EXPECT_EQ(type("F16", "output.weight"), "F16");
  EXPECT_EQ(type("TQ1_0", "output.weight"), "Q6_K");
  EXPECT_EQ(type("TQ1_0", "token_embd.weight"), "Q4_K");
  EXPECT_EQ(type("TQ1_0", "blk.0.ffn_down.weight"), "TQ1_0");
  a.tied = true;
  EXPECT_EQ(type("Q4_K_M", "token_embd.weight"), "Q6_K");
  EXPECT_EQ(find_mix("q4_k").name, "Q4_K_M");
}

}  // namespace
}  // namespace fettle
