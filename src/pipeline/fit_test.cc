// fit and healing on a tiny model, whole, and the page that a run ends in.
#include "format/format.h"
#include "pipeline/test_stages.h"

namespace fettle {
namespace {

void check_page(const std::string& page) {
  for (const char* loads : {"<script", "src=", "href=", "url(", "@import", "<link", "<iframe"})
    EXPECT_FALSE(contains(page, loads)) << loads;
  for (size_t at = page.find("://"); at != std::string::npos; at = page.find("://", at + 1))
    EXPECT_EQ(page.substr(at, 12), "://127.0.0.1") << page.substr(at - 20, 60);
}

TEST_F(StagesTest, FitGoesTheWholeWay) {
  const Json document = fit(fitting(folder / "run"), context);
  for (const char* key : {"name", "base", "target", "passed", "stages", "table", "flipped", "report", "gate"})
    ASSERT_TRUE(document.contains(key)) << key;
  EXPECT_EQ(document["stages"].size(), 7u);
  ASSERT_EQ(document["table"].size(), 3u);
  for (size_t i = 0; i < 3; i++) {
    EXPECT_EQ(document["table"][i]["model"], (std::vector<std::string>{"base", "tuned", "compressed"}[i]));
    for (const char* key : {"bytes", "score", "low", "high", "ms_per_token"}) EXPECT_TRUE(document["table"][i][key].is_number()) << key;
  }
  EXPECT_LT(document["table"][2]["bytes"].get<double>(), 180e3);
  EXPECT_GT(document["table"][2]["bytes"].get<double>(), 120e3) << "the size that is allowed is spent";
  EXPECT_TRUE(document["passed"].get<bool>()) << document["gates"].dump(1);
  for (const char* key : {"rule", "value", "low", "high", "passed"}) EXPECT_TRUE(document["gate"].contains(key)) << key;
  Registry registry;
  const auto record = registry.find("tickets");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->state, "ready");
  EXPECT_EQ(record->digest, sha256_file(folder / "run" / "compressed.gguf"));
  EXPECT_EQ(record->recipe["seed"], 0);
  const std::string page = read_text(document["report"].get<std::string>());
  check_page(page);
  EXPECT_TRUE(contains(page, record->digest) && contains(page, "tickets:1"));

  // another target repeats only what it touches, and a missed one is not ready
  FitArguments strict = fitting(folder / "run");
  strict.target = "size<180kB,accuracy>=99.9%";
  StageContext resume = context;
  resume.resume = true;
  const Json missed = fit(strict, resume);
  EXPECT_FALSE(missed["passed"].get<bool>());
  EXPECT_EQ(missed["model"], "tickets:2");
  EXPECT_EQ(registry.find("tickets:2")->state, "failed-gate");
  EXPECT_EQ(registry.find("tickets")->version, 1);
  for (const Json& stage : missed["stages"]) {
    const std::string name = stage["name"];
    const bool kept = name == "tune" || name == "merge" || name == "compress" || name == "evaluate";
    EXPECT_EQ(stage["skipped"].get<bool>(), kept) << name;
  }
  EXPECT_EQ(fit(strict, resume)["model"], "tickets:2") << "resuming a finished run registers nothing twice";
}

TEST_F(StagesTest, HealingBringsAQuantizedModelNearerToItsTeacher) {
  Pool pool(2);
  QuantizeOptions coarse;
  coarse.type = "Q4_0";
  quantize(folder / "tiny.gguf", folder / "small.gguf", coarse, pool, {});
  HealArguments a;
  a.quantized = a.out = folder / "small.gguf";
  a.teacher = folder / "tiny.gguf";
  a.folder = folder / "healing";
  Random random(1);
  for (int i = 0; i < 160; i++) {
    TokenRow row{{256, 10, 20}, {}, i};  // what all rows begin with is not learned again for each
    for (int j = 0; j < 20; j++) row.ids.push_back(int(random.below(8)));
    row.labels.assign(row.ids.size(), -100);
    (i % 8 ? a.rows : a.watched).push_back(row);
  }
  a.options.epochs = 3;
  a.options.threads = 2;
  const std::string before = sha256_file(a.out);
  const Json result = heal(a);
  EXPECT_TRUE(result["healed"].get<bool>()) << result.dump();
  EXPECT_LT(result["kl_after"].get<double>(), 0.97 * result["kl_before"].get<double>());
  EXPECT_NE(sha256_file(a.out), before);
  EXPECT_EQ(Gguf(a.out).file_bytes(), fs::file_size(a.out));
  const auto kl = [&](const fs::path& path) {
    std::vector<TokenRow> rows = a.watched;
    for (TokenRow& row : rows) std::copy(row.ids.begin() + 3, row.ids.end(), row.labels.begin() + 3);
    return evaluate_loss(*Model::open(path), rows, a.options.precision, pool, Model::open(a.teacher).get());
  };
  EXPECT_NEAR(kl(a.out), result["kl_after"].get<double>(), 1e-3 * kl(a.out));

  // nothing to train: the file is handed on as it is
  a.quantized = a.teacher;
  a.out = folder / "same.gguf";
  EXPECT_FALSE(heal(a)["healed"].get<bool>());
  EXPECT_EQ(sha256_file(a.out), sha256_file(a.teacher));
}

TEST_F(StagesTest, FreeAnswersAreScoredByExactMatch) {
  std::string rows;
  for (int i = 0; i < 30; i++)
    rows += "{\"messages\": [{\"role\": \"user\", \"content\": \"say number " + std::to_string(i * 37) +
            "\"}, {\"role\": \"assistant\", \"content\": \"it is " + std::to_string(i * 37) + "\"}]}\n";
  FitArguments a = fitting(folder / "run");
  a.data = file("free.jsonl", rows).string();
  a.held_out.clear();
  a.options.epochs = 1;
  a.target = "size<180kB,kl<5";
  const Json document = fit(a, context);
  EXPECT_EQ(document["task"], "exact");
  EXPECT_TRUE(document["table"][2]["perplexity"].is_number());
  EXPECT_GT(document["kl"]["value"].get<double>(), 0);
}

TEST_F(StagesTest, FitRefusesBeforeItCosts) {
  FitArguments a = fitting(folder / "run");
  a.target = "size<90XB";
  EXPECT_TRUE(contains(complaint([&] { fit(a, context); }), "90XB"));
  a = fitting(folder / "small");
  a.target = "size<10kB";
  EXPECT_TRUE(contains(complaint([&] { fit(a, context); }), "no types make this model as small as"));
  EXPECT_FALSE(fs::exists(folder / "small" / "adapter.gguf"));
  a = fitting(folder / "run");
  a.name = "../evil";
  EXPECT_NE(complaint([&] { fit(a, context); }), "");
  EXPECT_FALSE(fs::exists(folder / "run"));
  StageContext dry = context;
  dry.dry_run = true;
  EXPECT_GT(fit(fitting(folder / "run"), dry)["plan"]["steps"].get<int>(), 0);
  EXPECT_FALSE(fs::exists(folder / "run"));
}

}  // namespace
}  // namespace fettle
