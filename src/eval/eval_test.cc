// Statistics against SciPy's numbers; every task on the tiny model against a plain computation of the same thing.
#include "eval/eval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "../../tests/message.h"
#include "../../tests/tiny_model.h"

namespace fettle {
namespace {

const nlohmann::json& golden() {
  static const auto file = nlohmann::json::parse(read_text(fs::path(FETTLE_SOURCE_DIR) / "tests/golden/statistics.json"));
  return file;
}

TEST(Statistics, WilsonAgreesWithScipy) {
  for (const auto& row : golden()["wilson"]) {
    const Interval i = wilson(row[0], row[1]);
    EXPECT_NEAR(i.low, double(row[2]), 1e-9) << row;
    EXPECT_NEAR(i.high, double(row[3]), 1e-9) << row;
    EXPECT_DOUBLE_EQ(i.value, double(row[0]) / double(row[1]));
  }
  EXPECT_EQ(wilson(0, 0).low, 0);
  EXPECT_EQ(wilson(0, 0).high, 1);  // nothing seen: anything is possible
}

TEST(Statistics, MeanIntervalAgreesWithScipy) {
  for (const auto& row : golden()["mean"]) {
    const Interval i = mean_interval(row["values"].get<std::vector<double>>());
    EXPECT_NEAR(i.low, double(row["low"]), 1e-9);
    EXPECT_NEAR(i.high, double(row["high"]), 1e-9);
  }
  EXPECT_TRUE(std::isinf(mean_interval({1.0}).high));
}

TEST(Statistics, PairedTestAgreesWithScipy) {
  for (const auto& row : golden()["paired"]) {
    const auto a = row["a"].get<std::vector<double>>(), b = row["b"].get<std::vector<double>>();
    const Paired p = paired_test(a, b);
    const bool real = row.contains("real");
    EXPECT_NEAR(p.p_value, double(row["p"]), real ? 0.01 : 1e-9) << row["p"];
    // Two bootstraps with other random numbers agree to a fraction of the interval's width.
    const double near = real ? 0.05 * (double(row["high"]) - double(row["low"])) : 1e-6;
    EXPECT_NEAR(p.difference.low, double(row["low"]), near);
    EXPECT_NEAR(p.difference.high, double(row["high"]), near);
    if (!real) {
      EXPECT_EQ(p.only_a + p.only_b + p.both + p.neither, int64_t(a.size()));
    }
  }
}

TEST(Statistics, PairedDifferenceAgreesWithTheLikelihoodsOwn) {
  for (const auto& row : golden()["tango"]) {
    const Interval i = paired_difference(row[0], row[1], row[2]), mirrored = paired_difference(row[1], row[0], row[2]);
    EXPECT_NEAR(i.low, double(row[3]), 1e-6) << row;
    EXPECT_NEAR(i.high, double(row[4]), 1e-6) << row;
    EXPECT_NEAR(mirrored.low, -i.high, 1e-9) << row;
  }
  const Interval none = paired_difference(0, 0, 0), all = paired_difference(5, 0, 5);
  EXPECT_EQ(none.low, -1);
  EXPECT_EQ(none.high, 1);
  EXPECT_NEAR(all.low, -1, 1e-9);
  EXPECT_LT(all.high, 0);
}

TEST(Statistics, PairedTestCountsAndRepeats) {
  const std::vector<double> a{1, 1, 0, 0, 1}, b{1, 0, 1, 0, 1};
  const Paired p = paired_test(a, b), again = paired_test(a, b);
  EXPECT_EQ(p.both, 2);
  EXPECT_EQ(p.only_a, 1);
  EXPECT_EQ(p.only_b, 1);
  EXPECT_EQ(p.neither, 1);
  EXPECT_EQ(p.p_value, 1);
  EXPECT_EQ(p.difference.low, again.difference.low);
  EXPECT_EQ(paired_test({1, 1}, {1, 1}).p_value, 1);
}

TEST(Flips, OnlyRowsWhoseRightnessChanged) {
  Score before, after;
  before.row_scores = {{0, "a", "a", true}, {1, "b", "x", false}, {2, "c", "x", false}, {7, "d", "d", true}};
  after.row_scores = {{2, "c", "y", false}, {1, "b", "b", true}, {0, "a", "z", false}, {9, "e", "e", true}};
  const std::vector<Flip> flips = flipped(before, after);
  ASSERT_EQ(flips.size(), 2u);
  EXPECT_EQ(flips[0].id, 1);
  EXPECT_TRUE(flips[0].mended);
  EXPECT_EQ(flips[1].id, 0);
  EXPECT_FALSE(flips[1].mended);
  EXPECT_EQ(flips[1].before, "a");
  EXPECT_EQ(flips[1].after, "z");
}

TEST(Tasks, AreFoundByNameAndSlipsAreMended) {
  for (const char* name : {"exact", "choice", "perplexity", "kl"}) EXPECT_STREQ(find_task(name).name, name);
  try {
    find_task("perplexty");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    EXPECT_NE(e.text().find("did you mean 'perplexity'"), std::string::npos) << e.text();
  }
}

class TaskTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("fettle-eval-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    TinyModel tiny;
    tiny.write(folder_ / "tiny.gguf");
    model_ = Model::open(folder_ / "tiny.gguf");
    tiny.format = "Q4_0";
    tiny.write(folder_ / "small.gguf");
    small_ = Model::open(folder_ / "small.gguf");
  }
  void TearDown() override { fs::remove_all(folder_); }

  static EngineOptions options(Precision precision = Precision::exact) {
    EngineOptions o;
    o.parallel = 4;
    o.context = 256;
    o.threads = 2;
    o.kv = find_format("F32");
    o.precision = precision;
    return o;
  }
  static Example example(const std::string& question, const std::string& answer) {
    Example e;
    e.messages = {{"user", question}, {"assistant", answer}};
    e.file = "rows.jsonl";
    return e;
  }
  // Log-probabilities of ids[i + 1] after ids[..i], by one plain pass.
  static std::vector<std::vector<double>> log_probs(Model& model, const std::vector<int>& ids) {
    Pool pool(1);
    Arena arena;
    Batch batch;
    batch.add(0, 0, ids, true, true);
    fettle::Run run{arena, pool, nullptr, nullptr, nullptr, Precision::exact};
    const Var* logits = model.logits(run, batch);
    std::vector<std::vector<double>> all;
    for (int r = 0; r < logits->rows; r++) {
      const float* row = logits->data + int64_t(r) * logits->cols;
      double sum = 0;
      for (int i = 0; i < logits->cols; i++) sum += std::exp(double(row[i]));
      all.emplace_back();
      for (int i = 0; i < logits->cols; i++) all.back().push_back(double(row[i]) - std::log(sum));
    }
    return all;
  }

  fs::path folder_;
  std::shared_ptr<Model> model_, small_;
};

TEST_F(TaskTest, ExactCountsGreedyAnswersAfterTrimming) {
  Engine engine(model_, options());
  std::vector<Example> examples{example("one", ""), example("two", ""), example("three", "surely not this")};
  EvalInput input;
  input.engine = &engine;
  input.examples = &examples;
  input.max_tokens = 5;
  int64_t last = 0;
  input.progress = [&](int64_t done, int64_t) { last = done; };
  const ChatFormat format = model_->chat_format();
  for (int i : {0, 1}) {
    Request r;
    r.prompt = format.prompt({examples[size_t(i)].messages.begin(), examples[size_t(i)].messages.end() - 1});
    r.max_tokens = 5;
    examples[size_t(i)].messages.back().content = "  " + std::string(trim(engine.generate(r).text)) + "\n";
  }
  const Score score = find_task("exact").run(input);
  EXPECT_EQ(score.rows, 3);
  EXPECT_EQ(last, 3);
  EXPECT_NEAR(score.score.value, 2.0 / 3, 1e-12);
  EXPECT_LT(score.score.low, score.score.value);
  ASSERT_EQ(score.row_scores.size(), 3u);
  EXPECT_TRUE(score.row_scores[0].right && score.row_scores[1].right);
  EXPECT_FALSE(score.row_scores[2].right);
  EXPECT_EQ(score.row_scores[2].expected, "surely not this");
  EXPECT_LT(score.row_scores[2].log_prob, 0);
}

TEST_F(TaskTest, ExactNamesTheRowThatDoesNotFit) {
  EngineOptions small = options();
  small.context = 64;
  Engine engine(model_, small);
  std::vector<Example> examples{example("one", "x"), example(std::string(80, 'a'), "x")};
  examples[1].row = 318;
  EvalInput input;
  input.engine = &engine;
  input.examples = &examples;
  EXPECT_NE(message([&] { find_task("exact").run(input); }).find("rows.jsonl:318"), std::string::npos);
  input.examples = nullptr;
  EXPECT_NE(message([&] { find_task("exact").run(input); }).find("needs examples"), std::string::npos);
}

TEST_F(TaskTest, ChoiceAnswersWithOneOfTheAnswers) {
  Engine engine(model_, options());
  std::vector<Example> examples;
  for (int i = 0; i < 12; i++)
    examples.push_back(example("question " + std::to_string(i), i % 3 == 0 ? "refund" : i % 3 == 1 ? "refund late" : "card"));
  EvalInput input;
  input.engine = &engine;
  input.examples = &examples;
  const Score score = find_task("choice").run(input);
  for (const RowScore& r : score.row_scores) {
    EXPECT_TRUE(r.answer == "refund" || r.answer == "refund late" || r.answer == "card") << r.answer;
    EXPECT_EQ(r.right, r.answer == r.expected);
  }
}

TEST_F(TaskTest, ChoiceRefusesWhatIsNoClosedSet) {
  Engine engine(model_, options());
  std::vector<Example> examples;
  EvalInput input;
  input.engine = &engine;
  input.examples = &examples;
  for (int i = 0; i < 30; i++) examples.push_back(example("q", "answer " + std::to_string(i)));
  EXPECT_NE(message([&] { find_task("choice").run(input); }).find("30 different answers in 30 rows"), std::string::npos);
  examples = {example("q", std::string(100, 'x')), example("q", "short")};
  EXPECT_NE(message([&] { find_task("choice").run(input); }).find("too long for a choice"), std::string::npos);
}

TEST_F(TaskTest, PerplexityScoresTheSecondHalfOfEachWholeChunk) {
  Engine engine(model_, options());
  EvalInput input;
  input.engine = &engine;
  for (int i = 0; i < 100; i++) input.text += char('a' + i * 7 % 26);
  input.chunk_tokens = 32;  // three whole chunks of the 100 tokens
  const Score score = find_task("perplexity").run(input);
  const std::vector<int> ids = model_->tokenizer->encode(input.text);
  ASSERT_EQ(ids.size(), 100u);
  double loss = 0;
  for (int c = 0; c < 3; c++) {
    const std::vector<int> chunk(ids.begin() + c * 32, ids.begin() + (c + 1) * 32);
    const auto lp = log_probs(*model_, chunk);
    for (size_t i = 16; i + 1 < 32; i++) loss -= lp[i][size_t(chunk[i + 1])];
  }
  EXPECT_EQ(score.tokens, 45);
  EXPECT_EQ(score.rows, 3);
  EXPECT_NEAR(score.score.value, std::exp(loss / 45), 1e-3 * score.score.value);
  EXPECT_LT(score.score.low, score.score.value);
  EXPECT_GT(score.score.high, score.score.value);
  input.max_chunks = 2;
  EXPECT_EQ(find_task("perplexity").run(input).tokens, 30);
  input.chunk_tokens = 128;
  EXPECT_NE(message([&] { find_task("perplexity").run(input); }).find("100 tokens, less than one chunk of 128"), std::string::npos);
}

TEST_F(TaskTest, PerplexityOfExamplesScoresTheAssistantsTokens) {
  Engine engine(model_, options());
  std::vector<Example> examples{example("hello", "a card"), example("and what now?", "refund")};
  EvalInput input;
  input.engine = &engine;
  input.examples = &examples;
  const Score score = find_task("perplexity").run(input);
  double loss = 0;
  int64_t n = 0;
  for (const Example& e : examples) {
    const TokenRow row = model_->chat_format().train_row(e);
    const auto lp = log_probs(*model_, row.ids);
    for (size_t i = 0; i + 1 < row.ids.size(); i++) {
      if (row.labels[i + 1] < 0) continue;
      loss -= lp[i][size_t(row.ids[i + 1])];
      n++;
    }
  }
  EXPECT_EQ(score.tokens, n);
  EXPECT_NEAR(score.score.value, std::exp(loss / double(n)), 1e-3 * score.score.value);
}

TEST_F(TaskTest, KlAgreesWithItsDefinitionAndIsZeroToItself) {
  EvalInput input;
  for (int i = 0; i < 70; i++) input.text += char('a' + i * 11 % 26);
  input.chunk_tokens = 32;
  input.reference = model_.get();
  {
    Engine engine(model_, options());
    input.engine = &engine;
    const Score self = find_task("kl").run(input);
    EXPECT_NEAR(self.kl_mean, 0, 1e-6);
    EXPECT_EQ(self.same_top1, 1);
    EXPECT_NEAR(self.perplexity, self.reference_perplexity, 1e-9);
  }
  Engine engine(small_, options());
  input.engine = &engine;
  const Score score = find_task("kl").run(input);
  const std::vector<int> ids = model_->tokenizer->encode(input.text);
  std::vector<double> kl;
  double loss = 0, reference_loss = 0, same = 0;
  for (int c = 0; c < 2; c++) {
    const std::vector<int> chunk(ids.begin() + c * 32, ids.begin() + (c + 1) * 32);
    const auto p = log_probs(*model_, chunk), q = log_probs(*small_, chunk);
    for (size_t i = 16; i + 1 < 32; i++) {
      kl.push_back(0);
      for (size_t v = 0; v < p[i].size(); v++) kl.back() += std::exp(p[i][v]) * (p[i][v] - q[i][v]);
      loss -= q[i][size_t(chunk[i + 1])];
      reference_loss -= p[i][size_t(chunk[i + 1])];
      same += std::max_element(p[i].begin(), p[i].end()) - p[i].begin() == std::max_element(q[i].begin(), q[i].end()) - q[i].begin();
    }
  }
  double mean = 0, squares = 0;
  for (double k : kl) mean += k / 30;
  for (double k : kl) squares += (k - mean) * (k - mean);
  EXPECT_GT(mean, 1e-4);
  EXPECT_NEAR(score.kl_mean, mean, 1e-3 * mean);
  EXPECT_NEAR(score.kl_stderr, std::sqrt(squares / 29 / 30), 1e-3 * score.kl_stderr);
  EXPECT_NEAR(score.same_top1, same / 30, 1e-12);
  EXPECT_NEAR(score.perplexity, std::exp(loss / 30), 1e-3 * score.perplexity);
  EXPECT_NEAR(score.reference_perplexity, std::exp(reference_loss / 30), 1e-3 * score.reference_perplexity);
  std::sort(kl.begin(), kl.end());
  EXPECT_NEAR(score.kl_p99, kl[28] + 0.71 * (kl[29] - kl[28]), 1e-3 * score.kl_p99);
}

TEST_F(TaskTest, KlRefusesAnotherTokenizerAndNoReference) {
  Engine engine(model_, options());
  EvalInput input;
  input.engine = &engine;
  input.text = "some text";
  EXPECT_NE(message([&] { find_task("kl").run(input); }).find("--reference"), std::string::npos);
}

TEST_F(TaskTest, ServingPrecisionIsCloseToExact) {
  EvalInput input;
  for (int i = 0; i < 70; i++) input.text += char('a' + i * 5 % 26);
  input.chunk_tokens = 64;
  Engine exact(small_, options()), serving(small_, options(Precision::serving));
  input.engine = &exact;
  const double a = find_task("perplexity").run(input).score.value;
  input.engine = &serving;
  const double b = find_task("perplexity").run(input).score.value;
  EXPECT_NE(a, b);
  EXPECT_NEAR(a, b, 0.05 * a);
}

}  // namespace
}  // namespace fettle
