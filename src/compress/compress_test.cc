// Quantizing, measuring importance and merging on the tiny model, and the allocation against trying everything.
#include "compress/compress.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmath>
#include <csignal>
#include <set>

#include "../../tests/tiny_model.h"
#include "compress/allocate.h"
#include "compress/metric.h"
#include "compress/rules.h"

namespace fettle {
namespace {

class CompressTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("fettle-compress-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    source_ = folder_ / "tiny.gguf";
    TinyModel{}.write(source_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  QuantizeResult run(const QuantizeOptions& options, const std::string& name = "out.gguf", int threads = 2) {
    Pool pool(threads);
    return quantize(source_, folder_ / name, options, pool, {});
  }
  // A tiny model whose rows of 576 do not divide by 256.
  void use_rows_of_576() {
    TinyModel tiny;
    tiny.layers = 1;
    tiny.d_model = 576;
    tiny.heads = 9;
    tiny.kv_heads = 3;
    tiny.d_ff = 768;
    tiny.write(source_);
  }
  static std::vector<std::vector<int>> token_rows() {
    std::vector<std::vector<int>> rows;
    Random random(3);
    for (int n : {40, 7, 300, 1}) {
      rows.emplace_back();
      for (int i = 0; i < n; i++) rows.back().push_back(int(random.below(256)));
    }
    return rows;
  }
  Calibration calibration(int threads = 2, const Calibration::Limits& limits = {}) {
    Pool pool(threads);
    return Calibration(Model::open(source_), token_rows(), pool, {}, limits);
  }
  std::vector<ImportanceEntry> importance(int threads = 2) { return calibration(threads).importance(); }
  std::string bytes(const std::string& name) { return read_text(folder_ / name); }
  static std::vector<float> weights(const Gguf& file, const std::string& name) {
    const Tensor& t = file.tensor(name);
    std::vector<float> w(size_t(t.shape.count()));
    t.format->decode(t.bytes.data(), w.data(), t.shape.count());
    return w;
  }
  // Sum over a tensor of importance * (a - b)^2.
  static double weighted_error(const Gguf& a, const Gguf& b, const ImportanceEntry& e) {
    const std::vector<float> x = weights(a, e.name), y = weights(b, e.name);
    double sum = 0;
    for (size_t i = 0; i < x.size(); i++) sum += e.sum_squares[i % e.sum_squares.size()] * std::pow(double(x[i]) - double(y[i]), 2);
    return sum;
  }
  static std::string message(const std::function<void()>& f) {
    try {
      f();
    } catch (const Error& e) {
      return e.text() + " | " + e.hint;
    }
    return "no error";
  }
  std::set<std::string> files() {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.insert(entry.path().filename());
    return names;
  }

  fs::path folder_, source_;
};

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
  options.type = "Q8_0";
  const std::string text = message([&] { run(options); });
  EXPECT_NE(text.find("blk.0.attn_q.weight"), std::string::npos) << text;
  EXPECT_NE(text.find("not finite"), std::string::npos) << text;
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

LoraFile adapter(int rank, bool stabilised = false) {
  LoraFile lora;
  lora.alpha = 8;
  lora.rank_stabilised = stabilised;
  lora.architecture = "llama";
  Random random(5);
  LoraPair p{"blk.1.ffn_down.weight", rank, 128, 64, {}, {}};
  for (int i = 0; i < rank * 128; i++) p.a.push_back(0.1f * float(random.normal()));
  for (int i = 0; i < rank * 64; i++) p.b.push_back(0.1f * float(random.normal()));
  lora.pairs = {p};
  return lora;
}

TEST_F(CompressTest, MergeAddsTheProductAndTouchesNothingElse) {
  Pool pool(2);
  for (bool stabilised : {false, true}) {
    auto model = Model::open(source_);
    const LoraFile lora = adapter(4, stabilised);
    merge(*model, lora, folder_ / "merged.gguf", "same", pool);
    const Gguf merged(folder_ / "merged.gguf");
    const LoraPair& p = lora.pairs[0];
    const std::vector<float> before = weights(*model->file, p.name), after = weights(merged, p.name);
    const double scale = stabilised ? 8 / std::sqrt(4.0) : 8 / 4.0;
    for (size_t o = 0; o < 64; o++)
      for (size_t i = 0; i < 128; i++) {
        double delta = 0;
        for (size_t r = 0; r < 4; r++) delta += double(p.b[o * 4 + r]) * double(p.a[r * 128 + i]);
        ASSERT_NEAR(after[o * 128 + i], before[o * 128 + i] + scale * delta, 1e-5);
      }
    for (const NamedTensor& t : model->file->tensors()) {
      if (t.name == p.name) continue;
      EXPECT_TRUE(std::ranges::equal(t.tensor.bytes, merged.tensor(t.name).bytes)) << t.name;
    }
  }
}

TEST_F(CompressTest, MergedModelComputesWhatTheAdapterDid) {
  Pool pool(2);
  auto model = Model::open(source_);
  const LoraFile lora = adapter(4);
  merge(*model, lora, folder_ / "merged.gguf", "F32", pool);
  auto merged = Model::open(folder_ / "merged.gguf");
  model->attach_lora(lora, "adapter");
  const auto logits = [&](Model& m) {
    Arena arena;
    Batch batch;
    const std::vector<int> ids{5, 6, 7, 8};
    batch.add(0, 0, ids);
    fettle::Run run{arena, pool, nullptr, nullptr, nullptr, Precision::exact};
    const Var* y = m.logits(run, batch);
    return std::vector<float>(y->data, y->data + y->count());
  };
  const std::vector<float> a = logits(*model), b = logits(*merged);
  model->detach_lora();
  const std::vector<float> base = logits(*model);
  double difference = 0, moved = 0;
  for (size_t i = 0; i < a.size(); i++) {
    difference = std::max(difference, std::fabs(double(a[i]) - double(b[i])));
    moved = std::max(moved, std::fabs(double(a[i]) - double(base[i])));
  }
  EXPECT_LT(difference, 1e-3);
  EXPECT_GT(moved, 0.01);
}

// The grid that held the base holds no step small enough for an adapter: what is left of it is told.
TEST_F(CompressTest, MergeTellsHowMuchOfASmallUpdateIsLeft) {
  Pool pool(2);
  QuantizeOptions o;
  o.type = "Q4_1";
  quantize(source_, folder_ / "coarse.gguf", o, pool, nullptr);
  auto model = Model::open(folder_ / "coarse.gguf");
  LoraFile lora = adapter(4);
  for (float& b : lora.pairs[0].b) b *= 0.02f;
  EXPECT_LT(merge(*model, lora, folder_ / "same.gguf", "same", pool), 0.5);
  EXPECT_NEAR(merge(*model, lora, folder_ / "half.gguf", "F16", pool), 1, 0.01);
}

// To a size: the base's own grid is the cheapest by its error, and would give the base back.
TEST_F(CompressTest, SizesDoNotUndoTraining) {
  Pool pool(2);
  QuantizeOptions o;
  o.type = "Q4_1";
  quantize(source_, folder_ / "base.gguf", o, pool, nullptr);
  auto model = Model::open(folder_ / "base.gguf");
  LoraFile lora = adapter(4);
  for (float& b : lora.pairs[0].b) b *= 0.02f;
  merge(*model, lora, folder_ / "tuned.gguf", "F16", pool);
  o.size_bytes = fs::file_size(folder_ / "base.gguf") + 1500;
  for (bool known : {false, true}) {
    if (known) o.origin = folder_ / "base.gguf";
    const QuantizeResult r = quantize(folder_ / "tuned.gguf", folder_ / "small.gguf", o, pool, nullptr);
    const Tensor& t = Gguf(folder_ / "small.gguf").tensor(lora.pairs[0].name);
    const std::string type = t.format->name;
    EXPECT_EQ(type == "Q4_1", !known) << type;
    if (known) {
      for (const std::string& remark : r.remarks) EXPECT_EQ(remark.find("quantized already"), std::string::npos) << remark;
    }
  }
}

TEST_F(CompressTest, MergeTypesAndRefusals) {
  Pool pool(2);
  auto model = Model::open(source_);
  merge(*model, adapter(4), folder_ / "merged.gguf", "q8_0", pool);
  EXPECT_STREQ(Gguf(folder_ / "merged.gguf").tensor("blk.1.ffn_down.weight").format->name, "Q8_0");
  EXPECT_STREQ(Gguf(folder_ / "merged.gguf").tensor("blk.0.ffn_down.weight").format->name, "F32");
  const auto refusal = [&](const LoraFile& lora, const std::string& type) {
    return message([&] { merge(*model, lora, folder_ / "x.gguf", type, pool); });
  };
  LoraFile wrong = adapter(4);
  wrong.pairs[0].out = 65;
  EXPECT_NE(refusal(wrong, "same").find("the model's tensor is"), std::string::npos);
  wrong = adapter(4);
  wrong.pairs[0].name = "blk.9.ffn_down.weight";
  EXPECT_NE(refusal(wrong, "same").find("blk.9"), std::string::npos);
  EXPECT_NE(refusal(adapter(4), "Q4_K_M").find("merge to F16 or Q8_0"), std::string::npos);
  EXPECT_NE(refusal(adapter(4), "Q9").find("there is no type 'Q9'"), std::string::npos);
  EXPECT_NE(message([&] { merge(*model, adapter(4), source_, "same", pool); }).find("same file"), std::string::npos);
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

// Inputs that go together, as a model's do: few directions and a little of everything.
std::vector<float> covariance_of(int n, int tokens, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(size_t(tokens * n)), directions(size_t(8 * n)), h(size_t(n * n));
  for (float& d : directions) d = float(random.normal());
  for (int t = 0; t < tokens; t++)
    for (int d = 0; d < 8; d++) {
      const float a = float(random.normal());
      for (int i = 0; i < n; i++) x[size_t(t * n + i)] += a * directions[size_t(d * n + i)] + 0.2f * float(random.normal());
    }
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      double sum = 0;
      for (int t = 0; t < tokens; t++) sum += double(x[size_t(t * n + i)]) * x[size_t(t * n + j)];
      h[size_t(i * n + j)] = float(sum);
    }
  return h;
}
std::vector<float> some_weights(int rows, int n, uint64_t seed) {
  Random random(seed);
  std::vector<float> w(size_t(rows * n));
  for (float& x : w) x = 0.05f * float(random.normal());
  return w;
}
std::vector<float> encoded(const char* method, const Format& f, const std::vector<float>& w, int n, const InputMetric& metric,
                           const std::vector<float>& h, Pool& pool) {
  const int rows = int(w.size()) / n;
  std::vector<std::byte> blocks(size_t(f.bytes_for(int64_t(w.size()))));
  std::vector<float> importance, y(w.size());
  for (int i = 0; i < n; i++) importance.push_back(h[size_t(i * n + i)]);
  find_method(method).encode({f, n, importance.data(), &metric, pool}, w.data(), rows, blocks.data());
  f.decode(blocks.data(), y.data(), int64_t(w.size()));
  return y;
}
// tr(E H E^T) of E = a - b, by the definition.
double output_error(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& h, int n) {
  double sum = 0;
  for (size_t r = 0; r < a.size(); r += size_t(n))
    for (size_t i = 0; i < size_t(n); i++)
      for (size_t j = 0; j < size_t(n); j++)
        sum += (double(a[r + i]) - b[r + i]) * double(h[i * size_t(n) + j]) * (double(a[r + j]) - b[r + j]);
  return sum;
}

TEST(Gptq, OutputErrorIsBelowTheOtherMethodsForEveryFormat) {
  constexpr int n = 512;
  Pool pool(2);
  const std::vector<float> h = covariance_of(n, 700, 21), w = some_weights(6, n, 22);
  const InputMetric metric(h.data(), n, pool);
  int compared = 0;
  for (const Format* f : formats()) {
    if (!f->encode || !f->recode) continue;
    compared++;
    const auto error = [&](const char* method) { return output_error(w, encoded(method, *f, w, n, metric, h, pool), h, n); };
    const double gptq = error("gptq");
    EXPECT_LT(gptq, 0.7 * error("rtn")) << f->name;
    EXPECT_LT(gptq, 0.7 * error("weighted")) << f->name;
  }
  EXPECT_GE(compared, 12);
}

// The paper's own form, in doubles: the inverse of H, its Cholesky factor, and every later column corrected after each one.
struct Textbook {
  int n;
  std::vector<double> upper;  // U of H^-1 = U^T U
  explicit Textbook(const std::vector<float>& h, int size) : n(size), upper(size_t(size * size)) {
    const size_t m = size_t(n);
    std::vector<double> a(m * m), inverse(m * m);
    double trace = 0;
    for (size_t i = 0; i < m; i++) trace += double(h[i * m + i]), inverse[i * m + i] = 1;
    for (size_t i = 0; i < m * m; i++) a[i] = double(h[i]) + (i % (m + 1) == 0 ? 0.01 * trace / n : 0);
    for (size_t p = 0; p < m; p++) {  // Gauss and Jordan
      const double pivot = a[p * m + p];
      for (size_t j = 0; j < m; j++) a[p * m + j] /= pivot, inverse[p * m + j] /= pivot;
      for (size_t i = 0; i < m; i++) {
        if (i == p) continue;
        const double factor = a[i * m + p];
        for (size_t j = 0; j < m; j++) a[i * m + j] -= factor * a[p * m + j], inverse[i * m + j] -= factor * inverse[p * m + j];
      }
    }
    for (size_t i = 0; i < m; i++)
      for (size_t j = i; j < m; j++) {
        double sum = inverse[i * m + j];
        for (size_t l = 0; l < i; l++) sum -= upper[l * m + i] * upper[l * m + j];
        upper[i * m + j] = i == j ? std::sqrt(sum) : sum / upper[i * m + i];
      }
  }
  // One row of Q8_0 or Q4_0: scales searched where a block begins, as the format does.
  std::vector<float> quantize(const Format& f, const float* weights, const float* importance) const {
    std::vector<double> w(weights, weights + n);
    std::vector<float> result(size_t(n), 0.0f);
    float scale = 0, min = 0;
    for (int j = 0; j < n; j++) {
      if (j % f.block == 0) {
        std::vector<float> now(w.begin() + j, w.begin() + j + f.block);
        std::vector<std::byte> b(size_t(f.block_bytes));
        std::vector<uint8_t> codes(size_t(f.block));
        f.encode(now.data(), b.data(), f.block, importance + j);
        f.unpack(b.data(), f.block, codes.data(), &scale, &min);
      }
      const double code = std::clamp(std::floor((w[size_t(j)] - double(min)) / double(scale) + 0.5), 0.0, double((1 << f.code_bits) - 1));
      result[size_t(j)] = float(double(scale) * code + double(min));
      const size_t m = size_t(n), p = size_t(j);
      const double error = (w[p] - double(result[p])) / upper[p * m + p];
      for (size_t k = p; k < m; k++) w[k] -= error * upper[p * m + k];
    }
    return result;
  }
};

TEST(Gptq, EqualsTheTextbook) {
  constexpr int n = 160;
  Pool pool(2);
  const std::vector<float> h = covariance_of(n, 400, 31), w = some_weights(12, n, 32);
  const InputMetric metric(h.data(), n, pool);
  const Textbook book(h, n);
  for (int k = 0; k < n; k++) {
    const double diagonal = 1 / std::pow(book.upper[size_t(k * n + k)], 2);  // D_k = 1 / U_kk^2
    EXPECT_NEAR(metric.diagonal()[k], diagonal, 1e-3 * diagonal);
  }
  std::vector<float> importance;
  for (int i = 0; i < n; i++) importance.push_back(h[size_t(i * n + i)]);
  for (const char* name : {"Q4_0", "Q4_1", "Q5_0"}) {
    const Format& f = *find_format(name);
    const std::vector<float> y = encoded("gptq", f, w, n, metric, h, pool);
    // A tie that falls the other way in floats sends the rest of its row elsewhere: most rows are the same to the last code.
    int same = 0;
    double ours = 0, theirs = 0;
    for (size_t r = 0; r < w.size(); r += n) {
      const std::vector<float> row(w.begin() + long(r), w.begin() + long(r + n)), mine(y.begin() + long(r), y.begin() + long(r + n));
      const std::vector<float> expected = book.quantize(f, row.data(), importance.data());
      bool equal = true;
      for (size_t i = 0; i < n; i++) equal = equal && std::fabs(mine[i] - expected[i]) < 1e-6f;
      same += equal;
      ours += output_error(row, mine, h, n);
      theirs += output_error(row, expected, h, n);
    }
    EXPECT_GE(same, 8) << name;
    EXPECT_NEAR(ours, theirs, 0.1 * theirs) << name;
  }
}

// What LoRA learns on a base that lies on the grid already: small against a step, the same direction in every row. Rounding loses it.
TEST(Gptq, KeepsACoherentUpdateOfABaseOnTheGrid) {
  constexpr int n = 256, rows = 32;
  Pool pool(2);
  const std::vector<float> h = covariance_of(n, 600, 41);
  const InputMetric metric(h.data(), n, pool);
  const Format& f = *find_format("Q4_1");
  std::vector<float> raw = some_weights(rows, n, 42), base(raw.size());
  std::vector<std::byte> blocks(size_t(f.bytes_for(int64_t(raw.size()))));
  f.encode(raw.data(), blocks.data(), int64_t(raw.size()), nullptr);
  f.decode(blocks.data(), base.data(), int64_t(raw.size()));
  // Along the inputs' own strongest directions, as gradients are: a row of H.
  std::vector<float> tuned = base;
  Random random(43);
  for (size_t r = 0; r < rows; r++) {
    const double b = random.normal();
    for (size_t i = 0; i < n; i++) tuned[r * n + i] += float(0.002 * b * double(h[i]) / double(h[0]));
  }
  const double learned = output_error(tuned, base, h, n);
  const double rtn = output_error(tuned, encoded("rtn", f, tuned, n, metric, h, pool), h, n);
  const double gptq = output_error(tuned, encoded("gptq", f, tuned, n, metric, h, pool), h, n);
  EXPECT_GT(rtn, 0.7 * learned);
  EXPECT_LT(gptq, 0.3 * learned);
}

TEST_F(CompressTest, GptqDoesNotDependOnThreadsAndBeatsTheOthersOnAModel) {
  for (uint64_t size : {uint64_t(0), uint64_t(80000)}) {
    QuantizeOptions options;
    options.type = "Q4_1";
    options.size_bytes = size;
    Calibration one = calibration(1), three = calibration(3);
    options.calibration = &one;
    run(options, "one.gguf", 1);
    options.calibration = &three;
    run(options, "three.gguf", 3);
    EXPECT_EQ(bytes("one.gguf"), bytes("three.gguf"));
  }
  QuantizeOptions options;
  options.type = "Q4_0";
  Calibration inputs = calibration();
  const std::vector<ImportanceEntry> measured = inputs.importance();
  options.importance = &measured;
  run(options, "weighted.gguf");
  options.calibration = &inputs;
  run(options, "gptq.gguf");
  Pool pool(2);
  const Gguf original(source_), weighted(folder_ / "weighted.gguf"), gptq(folder_ / "gptq.gguf");
  double least = 0, most = 0;
  for (const ImportanceEntry& e : measured) {
    const int n = int(e.sum_squares.size());
    const float* upper = inputs.covariance(e.name, pool);
    std::vector<float> h(upper, upper + n * n);
    for (int i = 0; i < n; i++)
      for (int j = 0; j < i; j++) h[size_t(i * n + j)] = h[size_t(j * n + i)];
    const std::vector<float> w = weights(original, e.name);
    const double scale = output_error(w, std::vector<float>(w.size()), h, n);
    least += output_error(w, weights(gptq, e.name), h, n) / scale;
    most += output_error(w, weights(weighted, e.name), h, n) / scale;
  }
  EXPECT_LT(least, 0.95 * most);
  options.calibration = nullptr;
  options.method = "gptq";
  EXPECT_NE(message([&] { run(options); }).find("calibrate on"), std::string::npos);
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
  a.tied = true;
  EXPECT_EQ(type("Q4_K_M", "token_embd.weight"), "Q6_K");
  EXPECT_EQ(find_mix("q4_k").name, "Q4_K_M");
}

}  // namespace
}  // namespace fettle
