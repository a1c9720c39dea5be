// The one forward, against the reference implementation and against itself: in pieces, in batches, token by token, with an adapter.
#include "model/model.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "../../tests/broken_model.h"
#include "../../tests/tiny_model.h"

namespace fettle {
namespace {

// A model with what a pass needs.
struct Bench {
  explicit Bench(std::shared_ptr<Model> m, Precision p, int sequences = 4)
      : model(std::move(m)), precision(p), kv(model->kv_shape(), find_format("F32"), sequences, sequences * 256) {}
  // Logits (count, vocabulary) of `ids` at `start` of a sequence whose earlier tokens are in the cache.
  std::vector<float> feed(int sequence, int start, const std::vector<int>& ids) {
    Batch batch;
    batch.add(sequence, start, ids, true, true);
    return feed(batch);
  }
  std::vector<float> feed(const Batch& batch) {
    for (const Batch::Segment& s : batch.segments) EXPECT_TRUE(kv.reserve(s.sequence, s.start + s.count));
    Run run{arena, pool, &kv, nullptr, nullptr, precision};
    run.times = times;
    Var* y = model->logits(run, batch);
    std::vector<float> out(y->data, y->data + y->count());
    arena.reset();
    return out;
  }
  std::shared_ptr<Model> model;
  Precision precision;
  Pool pool{2};
  Arena arena;
  KvCache kv;
  OpTimes* times = nullptr;
};

double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); i++) worst = std::max(worst, std::abs(double(a[i]) - b[i]));
  return worst;
}

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("FETTLE_SMOLLM2");
    if (!path || !fs::exists(path)) GTEST_SKIP() << "FETTLE_SMOLLM2 names no file";
    model = Model::open(path);
    golden = nlohmann::json::parse(std::ifstream(fs::path(FETTLE_SOURCE_DIR) / "tests/golden/logits_smollm2.json"));
  }
  std::shared_ptr<Model> model;
  nlohmann::json golden;
};

TEST_F(SmolLm2, LogitsAreTheReferences) {
  Bench bench(model, Precision::exact);
  double worst = 0;
  int rows = 0;
  for (const auto& prompt : golden) {
    const auto logits = bench.feed(0, 0, prompt["ids"].get<std::vector<int>>());
    for (size_t t = 0; t < prompt["ids"].size(); t++, rows++) {
      const float* row = logits.data() + t * size_t(model->config.vocabulary);
      for (size_t c = 0; c < prompt["columns"].size(); c++)
        worst = std::max(worst, std::abs(row[prompt["columns"][c].get<size_t>()] - prompt["logits"][t][c].get<double>()));
      worst = std::max(worst, std::abs(log_sum_exp(row, model->config.vocabulary) - prompt["log_sum_exp"][t].get<double>()));
      EXPECT_EQ(argmax(row, model->config.vocabulary), prompt["top"][t].get<int>());
    }
    bench.kv.clear_all();
  }
  EXPECT_EQ(rows, 3 * 64);
  EXPECT_LT(worst, 1e-3);
}

TEST_F(SmolLm2, GreedyTokensAreTheReferences) {
  Bench bench(model, Precision::exact);
  for (const auto& prompt : golden) {
    std::vector<int> ids = prompt["ids"], answer;
    std::vector<float> logits = bench.feed(0, 0, ids);
    const auto expected = prompt["greedy"].get<std::vector<int>>();
    while (answer.size() < expected.size()) {
      answer.push_back(argmax(logits.data() + logits.size() - size_t(model->config.vocabulary), model->config.vocabulary));
      logits = bench.feed(0, int(ids.size() + answer.size()) - 1, {answer.back()});
    }
    EXPECT_EQ(answer, expected);
    bench.kv.clear_all();
  }
}

// What serving computes (int8 activations) stays close to plain arithmetic.
TEST_F(SmolLm2, ServingLosesLittle) {
  Bench exact(model, Precision::exact), serving(model, Precision::serving);
  const size_t n = size_t(model->config.vocabulary);
  double kl = 0;
  int rows = 0;
  for (const auto& prompt : golden) {
    const auto ids = prompt["ids"].get<std::vector<int>>();
    const auto p = exact.feed(0, 0, ids), q = serving.feed(0, 0, ids);
    for (size_t t = 0; t < ids.size(); t++, rows++) {
      const float *a = p.data() + t * n, *b = q.data() + t * n;
      const double za = log_sum_exp(a, int(n)), zb = log_sum_exp(b, int(n));
      for (size_t i = 0; i < n; i++) kl += std::exp(a[i] - za) * ((a[i] - za) - (b[i] - zb));
    }
    exact.kv.clear_all();
    serving.kv.clear_all();
  }
  EXPECT_LT(kl / rows, 0.01);
  EXPECT_GT(kl / rows, 0);
}

class Tiny : public testing::Test {
 protected:
  void SetUp() override {
    path = fs::path(testing::TempDir()) / ("model_test_" + std::to_string(::getpid()) + ".gguf");
    TinyModel().write(path);
    model = Model::open(path);
    Random random(5);
    for (int i = 0; i < 150; i++) ids.push_back(int(random.below(256)));
  }
  void TearDown() override { fs::remove(path); }
  fs::path path;
  std::shared_ptr<Model> model;
  std::vector<int> ids;
};

TEST_F(Tiny, PiecesGiveWhatTheWholeGives) {
  Bench bench(model, Precision::exact);
  const auto whole = bench.feed(0, 0, ids);
  for (int piece : {1, 7, 64, 100}) {
    bench.kv.clear_all();
    std::vector<float> joined;
    for (int at = 0; at < int(ids.size()); at += piece) {
      const int end = std::min<int>(at + piece, int(ids.size()));
      const auto part = bench.feed(0, at, {ids.begin() + at, ids.begin() + end});
      joined.insert(joined.end(), part.begin(), part.end());
    }
    EXPECT_LT(worst_difference(whole, joined), 2e-4) << piece;
  }
}

TEST_F(Tiny, SequencesTogetherGiveWhatEachGivesAlone) {
  Bench bench(model, Precision::exact);
  Batch together;
  std::vector<float> alone;
  const std::vector<std::vector<int>> parts = {
      {ids.begin(), ids.begin() + 3}, {ids.begin() + 3, ids.begin() + 90}, {ids.begin() + 90, ids.end()}};
  for (int s = 0; s < 3; s++) {
    const auto one = bench.feed(s, 0, parts[size_t(s)]);
    alone.insert(alone.end(), one.begin(), one.end());
    together.add(s, 0, parts[size_t(s)], true, true);
  }
  bench.kv.clear_all();
  EXPECT_LT(worst_difference(alone, bench.feed(together)), 2e-4);
}

TEST_F(Tiny, OnlyWantedRowsAreComputed) {
  Bench bench(model, Precision::exact);
  const auto whole = bench.feed(0, 0, ids);
  bench.kv.clear_all();
  Batch batch;
  batch.add(0, 0, ids);
  const auto last = bench.feed(batch);
  ASSERT_EQ(last.size(), size_t(model->config.vocabulary));
  EXPECT_LT(worst_difference(last, {whole.end() - model->config.vocabulary, whole.end()}), 1e-5);
}

TEST_F(Tiny, AdapterAddsItsProduct) {
  Linear& q = *model->find_linear("blk.1.attn_q.weight");
  LoraFile lora;
  lora.alpha = 4;
  lora.architecture = "llama";
  LoraPair pair{q.name, 2, q.in, q.out, {}, {}};
  Random random(1);
  for (int i = 0; i < 2 * q.in; i++) pair.a.push_back(float(random.normal()) * 0.1f);
  for (int i = 0; i < 2 * q.out; i++) pair.b.push_back(0);
  Bench bench(model, Precision::exact);
  const auto base = bench.feed(0, 0, ids);
  lora.pairs = {pair};
  model->attach_lora(lora, "test");
  bench.kv.clear_all();
  EXPECT_LT(worst_difference(base, bench.feed(0, 0, ids)), 1e-6) << "a zero B changes nothing";
  for (float& b : lora.pairs[0].b) b = float(random.normal()) * 0.5f;
  model->attach_lora(lora, "test");
  bench.kv.clear_all();
  EXPECT_GT(worst_difference(base, bench.feed(0, 0, ids)), 1e-2);
  const LoraFile again = model->lora(lora.alpha);
  ASSERT_EQ(again.pairs.size(), 1u);
  EXPECT_EQ(again.pairs[0].b, lora.pairs[0].b);
  model->detach_lora();
  bench.kv.clear_all();
  EXPECT_LT(worst_difference(base, bench.feed(0, 0, ids)), 1e-6);

  lora.pairs[0].in = 1;
  EXPECT_THROW(model->attach_lora(lora, "test"), Error);
  lora.pairs[0].name = "blk.9.attn_q.weight";
  EXPECT_THROW(model->attach_lora(lora, "test"), Error);
}

// A copy of a model with its weights as floats.
std::shared_ptr<Model> decoded(const Model& model, const fs::path& path) {
  GgufWriter writer;
  writer.copy_metadata(*model.file);
  std::vector<float> weights;
  for (const NamedTensor& t : model.file->tensors())
    writer.add(t.name, find_format("F32"), t.tensor.shape, [&] {
      weights.resize(size_t(t.tensor.shape.count()));
      t.tensor.format->decode(t.tensor.bytes.data(), weights.data(), t.tensor.shape.count());
      return std::as_bytes(std::span(weights));
    });
  writer.write(path);
  return Model::open(path);
}

TEST_F(Tiny, PrepareRefusesWhatDoesNotFitAndSaysHowMuchItIs) {
  Pool pool(2);
  for (const auto& [precision, use] : {std::pair{Precision::serving, Linear::serving},
                                       {Precision::mixed, Linear::forward_bf16},
                                       {Precision::exact, Linear::forward_f32}}) {
    const auto sums = [&, use = use] {  // bytes that are there, and that are missing
      std::pair<int64_t, int64_t> sum{model->head.panel_bytes(), model->head.missing_panel_bytes(use)};
      for (const Linear* l : model->linears()) sum.first += l->panel_bytes(), sum.second += l->missing_panel_bytes(use);
      return sum;
    };
    const auto [there, missing] = sums();
    ASSERT_GT(missing, 0);
    try {
      model->prepare(pool, precision, uint64_t(missing - 1));
      FAIL() << "it fits";
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::refused);
      EXPECT_NE(std::string(e.what()).find(format_bytes(double(missing))), std::string::npos) << e.what();
    }
    model->prepare(pool, precision, uint64_t(missing));
    EXPECT_EQ(sums(), std::pair(there + missing, int64_t(0))) << "what was said is what is taken";
  }
}

TEST_F(Tiny, EveryFormatGivesTheLogitsOfItsDecodedWeights) {
  const fs::path floats = path.string() + ".floats";
  const std::vector<int> some(ids.begin(), ids.begin() + 20);
  for (const Format* f : formats()) {
    if (f->gguf_id < 0) continue;
    TinyModel tiny{.layers = 1, .d_model = 256, .d_ff = 512};
    tiny.format = f->name;
    tiny.write(path);
    model = Model::open(path);
    const auto truth = Bench(decoded(*model, floats), Precision::exact).feed(0, 0, some);
    EXPECT_EQ(Bench(model, Precision::exact).feed(0, 0, some), truth) << f->name;
    for (Precision precision : {Precision::mixed, Precision::serving}) {
      const auto logits = Bench(model, precision).feed(0, 0, some);
      double error = 0, size = 0;
      for (size_t i = 0; i < truth.size(); i++) error += std::pow(logits[i] - truth[i], 2), size += std::pow(truth[i], 2);
      EXPECT_LT(error, 0.03 * 0.03 * size) << f->name << " precision " << int(precision);
    }
  }
  fs::remove(floats);
}

// Matrices are not looked at when a model opens, but when what it computes is wrong.
TEST_F(Tiny, TheMatrixThatIsNotFiniteIsNamed) {
  EXPECT_EQ(Model::open(path)->why_not_finite().code, Exit::failed);
  const fs::path copy = path.string() + ".changed";
  write_broken(path, copy, "blk.1.ffn_up.weight");
  const Error error = Model::open(copy)->why_not_finite();
  EXPECT_EQ(error.code, Exit::refused);
  EXPECT_NE(error.text().find("blk.1.ffn_up.weight: holds weights that are not finite"), std::string::npos) << error.text();
  fs::remove(copy);
}

TEST_F(Tiny, AdaptersOutsideOfBlocksAreRefusedForThat) {
  const auto model = Model::open(path);
  const auto said = [&](const char* name) {
    LoraFile lora{.alpha = 1};
    lora.pairs.push_back({name, 1, 64, 64, std::vector<float>(64), std::vector<float>(64), {}});
    try {
      model->check_lora(lora, "mine");
    } catch (const Error& e) {
      return e.text();
    }
    return std::string();
  };
  EXPECT_EQ(said("blk.0.attn_q.weight"), "");
  EXPECT_NE(said("token_embd.weight").find("inside blocks alone"), std::string::npos);
  EXPECT_NE(said("blk.9.attn_q.weight").find("does not have"), std::string::npos);
}

// Every number of the configuration and every tensor is checked before anything is computed.
TEST_F(Tiny, WrongFilesAreRefused) {
  const auto rewritten = [&](const std::function<void(GgufWriter&)>& change, const std::string& left_out = {}) {
    const fs::path copy = path.string() + ".changed";
    {
      const Gguf from(path);
      GgufWriter writer;
      writer.copy_metadata(from);
      change(writer);
      for (const NamedTensor& t : from.tensors())
        if (t.name != left_out) writer.add(t.name, t.tensor.format, t.tensor.shape, [&t] { return t.tensor.bytes; });
      writer.write(copy);
    }
    std::string said;
    try {
      Model::open(copy);
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::refused);
      said = e.text();
    }
    fs::remove(copy);
    return said;
  };
  const auto with_integer = [&](const char* key, uint32_t value) { return rewritten([=](GgufWriter& w) { w.set_integer(key, value); }); };
  EXPECT_NE(with_integer("llama.attention.head_count", 0).find("head_count is 0"), std::string::npos);
  EXPECT_NE(with_integer("llama.attention.head_count", 3).find("head_count"), std::string::npos);
  EXPECT_NE(with_integer("llama.attention.head_count_kv", 3).find("head_count_kv"), std::string::npos);
  EXPECT_NE(with_integer("llama.block_count", 3).find("blk.2."), std::string::npos);
  EXPECT_NE(with_integer("llama.block_count", 4000000000u).find("block_count"), std::string::npos);
  EXPECT_NE(with_integer("llama.embedding_length", 32).find("expected"), std::string::npos);
  EXPECT_NE(with_integer("llama.rope.dimension_count", 7).find("odd"), std::string::npos);
  EXPECT_NE(with_integer("llama.expert_count", 8).find("expert_used_count is 0"), std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) {
              w.set_integer("llama.expert_count", 8), w.set_integer("llama.expert_used_count", 9);
            }).find("expert_used_count is 9"),
            std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) {
              w.set_integer("llama.expert_count", 8), w.set_integer("llama.expert_used_count", 2);
            }).find("ffn_gate_inp"),
            std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) { w.set_string("general.architecture", "mamba"); }).find("mamba"), std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) { w.set_string("general.type", "adapter"); }).find("'adapter'"), std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) { w.erase("tokenizer.ggml.tokens"); }).find("tokens"), std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) { w.set_real("llama.rope.freq_base", -1); }).find("rope base"), std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter&) {}, "blk.1.ffn_up.weight").find("blk.1.ffn_up.weight"), std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter&) {}, "token_embd.weight").find("token_embd.weight"), std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) { w.set_string("llama.rope.scaling.type", "spiral"); }).find("spiral"), std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) {
              w.set("llama.rope.freq_base", {GgufValue::Type::f64, {}, 1e300});
            }).find("rope base"),
            std::string::npos);
  for (const int64_t window : {int64_t(-1), INT64_MIN})
    EXPECT_NE(rewritten([=](GgufWriter& w) {
                w.set("llama.attention.sliding_window", {GgufValue::Type::i64, {}, window});
              }).find("sliding_window is -"),
              std::string::npos);
  EXPECT_NE(rewritten([](GgufWriter& w) {
              w.set_integer("llama.expert_count", 16384), w.set_integer("llama.expert_used_count", 16384);
              w.set_integer("llama.expert_feed_forward_length", 1 << 24);
            }).find("wide together"),
            std::string::npos);
  for (const uint32_t context : {2000000u, 1u << 31}) EXPECT_EQ(with_integer("llama.context_length", context), "");
  std::vector<float> infinite(64, 1.0f);
  infinite[7] = std::numeric_limits<float>::infinity();
  const std::string said = rewritten(
      [&](GgufWriter& w) { w.add("blk.1.ffn_norm.weight", find_format("F32"), {64}, [&] { return std::as_bytes(std::span(infinite)); }); },
      "blk.1.ffn_norm.weight");
  EXPECT_NE(said.find("blk.1.ffn_norm.weight: holds weights that are not finite"), std::string::npos) << said;
  const std::vector<float> ones(64, 1.0f);
  EXPECT_NE(rewritten([&](GgufWriter& w) {
              w.add("blk.0.attn_q_norm.weight", find_format("F32"), Shape{64}, [&] { return std::as_bytes(std::span(ones)); });
            }).find("blk.0.attn_q_norm.weight"),
            std::string::npos)
      << "a tensor that nobody reads changes what the model says";
  EXPECT_EQ(rewritten([](GgufWriter&) {}), "") << "a faithful copy opens";
}

// A Mixtral: passes in pieces and together are the same as for any other model, and stacked experts are linears of their own names.
TEST_F(Tiny, ExpertsAreLinearsOfTheirOwn) {
  for (const char* format : {"F32", "Q4_0"}) {
    TinyModel{.experts = 5, .format = format}.write(path);
    model = Model::open(path);
    EXPECT_EQ(model->config.experts, 5);
    EXPECT_EQ(model->config.d_ff, 2 * 128);
    ASSERT_EQ(model->linears().size(), size_t(2 * (4 + 1 + 3 * 5)));
    const Linear& some = *model->find_linear("blk.1.ffn_up.3.weight");
    const Tensor& stack = model->file->tensor("blk.1.ffn_up_exps.weight");
    EXPECT_EQ(some.weight.bytes.data(), stack.bytes.data() + 3 * some.weight.bytes.size());
    EXPECT_EQ(model->share_of_rows(some), 0.4);
    EXPECT_EQ(model->share_of_rows(*model->find_linear("blk.1.ffn_gate_inp.weight")), 1);
    Bench bench(model, Precision::exact);
    const auto whole = bench.feed(0, 0, ids);
    bench.kv.clear_all();
    Batch parts;
    parts.add(0, 0, {ids.begin(), ids.begin() + 40}, true, true);
    parts.add(1, 0, ids, true, true);
    const auto together = bench.feed(parts);
    const auto rest = bench.feed(0, 40, {ids.begin() + 40, ids.end()});
    const long n = 40 * model->config.vocabulary;
    EXPECT_LT(worst_difference({whole.begin(), whole.begin() + n}, {together.begin(), together.begin() + n}), 2e-4);
    EXPECT_LT(worst_difference(whole, {together.begin() + n, together.end()}), 2e-4);
    EXPECT_LT(worst_difference({whole.begin() + n, whole.end()}, rest), 2e-4);
    const auto truth = Bench(decoded(*model, path.string() + ".floats"), Precision::exact).feed(0, 0, ids);
    EXPECT_EQ(whole, truth);
  }
  fs::remove(path.string() + ".floats");
}

// What a pass reports is what the model is made of: two layers, 64 wide, four heads of which pairs share a key head, 128 inside.
TEST_F(Tiny, OperationsAddUpToThePass) {
  TinyModel{.format = "Q8_0"}.write(path);
  model = Model::open(path);
  const auto weights = [](double n) { return n * 34 / 32; };
  const auto floats = [](double n) { return n * 4; };
  Batch prompt, mixed;
  prompt.add(0, 0, std::vector<int>{1, 2, 3, 4, 5});
  mixed.add(0, 5, std::vector<int>{6});
  mixed.add(1, 0, std::vector<int>{7, 8, 9});
  mixed.generated = 1;
  Bench measured(model, Precision::serving), plain(model, Precision::serving);
  OpTimes first, second;
  measured.times = &first;
  const double start = now_seconds();
  EXPECT_EQ(measured.feed(prompt), plain.feed(prompt));
  const double whole = now_seconds() - start;
  measured.times = &second;
  EXPECT_EQ(measured.feed(mixed), plain.feed(mixed));

  struct Expected {
    const char* name;
    int calls;
    double operations, bytes;
  };
  const auto product = [&](const char* name, int calls, double rows, double in, double out) {
    return Expected{name, calls, calls * 2 * rows * in * out, calls * (weights(in * out) + floats(rows * (in + out)))};
  };
  const std::vector<Expected> expected{{"embed", 1, 0, weights(5 * 64) + floats(5 * 64)},
                                       {"rmsnorm", 5, 5 * 4 * 5 * 64, 5 * floats(2 * 5 * 64 + 64)},
                                       product("attn_q+attn_k+attn_v", 2, 5, 64, 64 + 32 + 32),
                                       {"rope", 4, 2 * 3 * 5 * (64 + 32), 2 * floats(2 * 5 * (64 + 32))},
                                       {"attention", 2, 2 * 4 * 15 * 64, 2 * floats(5 * 2 * 32 + 2 * 5 * (64 + 32))},
                                       product("attn_output", 2, 5, 64, 64),
                                       {"add", 4, 4 * 5 * 64, 4 * floats(3 * 5 * 64)},
                                       product("ffn_gate+ffn_up", 2, 5, 64, 2 * 128),
                                       {"swiglu", 2, 2 * 4 * 5 * 128, 2 * floats(3 * 5 * 128)},
                                       product("ffn_down", 2, 5, 128, 64),
                                       {"gather_rows", 1, 0, floats(2 * 64)},
                                       product("output", 1, 1, 64, 259)};
  std::vector<std::string> names, expected_names;
  for (const OpTime& t : first.all()) names.push_back(t.work.name);
  for (const Expected& e : expected) expected_names.push_back(e.name);
  ASSERT_EQ(names, expected_names);
  double seconds = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const OpTime& t = first.all()[i];
    EXPECT_EQ(t.calls, expected[i].calls) << t.work.name;
    EXPECT_EQ(t.work.f32 + t.work.bf16 + t.work.int8, expected[i].operations) << t.work.name;
    EXPECT_EQ(t.work.bytes, expected[i].bytes) << t.work.name;
    const bool products = std::string(expected[i].name).find('_') != std::string::npos || t.work.name == "output";
    EXPECT_EQ(t.work.f32 == 0, products || t.work.name == "embed") << t.work.name;
    seconds += t.seconds;
  }
  EXPECT_GT(seconds, 0);
  EXPECT_LE(seconds, whole);
  // One row is of an answer, three are of a prompt.
  const OpWork& down = second.all()[9].work;
  const double row = 2 * 2 * 128 * 64;
  const bool bytes_only = codes_arithmetic(false) == Arithmetic::int8;
  EXPECT_EQ(down.int8, (bytes_only ? 4 : 1) * row);
  EXPECT_EQ(down.bf16, (bytes_only ? 0 : 3) * row);
}

}  // namespace
}  // namespace fettle
