// The stages on a tiny model, whole: data, tune, and what is left when they are stopped.
#include <signal.h>
#include <sys/wait.h>

#include "pipeline/test_stages.h"

namespace fettle {
namespace {

TEST_F(StagesTest, DataIsSplitAndLeaksAreKeptOutOfTraining) {
  const PreparedData split = prepare_data(tickets("t.jsonl", 60).string(), "", 0.2, false, 0);
  EXPECT_EQ(split.train.size() + split.held_out.size(), 60u);
  EXPECT_GT(split.held_out.size(), 2u);
  const PreparedData again = prepare_data(tickets("t.jsonl", 60).string(), "", 0.2, false, 0);
  EXPECT_EQ(split.held_out.front().row, again.held_out.front().row);
  // rows 10..19 are in both files
  const PreparedData leaky = prepare_data(tickets("a.jsonl", 20).string(), tickets("b.jsonl", 20, 10).string(), 0.2, false, 0);
  EXPECT_EQ(leaky.train.size(), 10u);
  EXPECT_EQ(leaky.held_out.size(), 20u);
  EXPECT_GE(leaky.report.leaks.size(), 10u);
  const std::string all = complaint([&] { prepare_data(tickets("a.jsonl", 20).string(), tickets("b.jsonl", 20).string(), 0.2, false, 0); });
  EXPECT_TRUE(contains(all, "nothing would be left to train on")) << all;
}

TEST_F(StagesTest, BadRowsAreNamedOrSkipped) {
  const fs::path bad = file(
      "bad.jsonl", read_text(tickets("t.jsonl", 10)) + "{\"messages\": [{\"role\": \"user\", \"content\": \"no answer\"}]}\n{broken\n");
  const std::string said = complaint([&] { prepare_data(bad.string(), "", 0.2, false, 0); });
  EXPECT_TRUE(contains(said, "bad.jsonl:11") && contains(said, "--skip-bad")) << said;
  EXPECT_EQ(prepare_data(bad.string(), "", 0.2, true, 0).data.examples.size(), 10u);
  const Json document = data_check(bad.string(), "", (folder / "tiny.gguf").string(), 64, true);
  for (const char* key : {"rows", "accepted", "problems", "duplicates", "near_duplicates", "leaks", "conflicts", "tokens"})
    EXPECT_TRUE(document.contains(key)) << key;
  EXPECT_EQ(document["rows"], 12);
  EXPECT_EQ(document["accepted"], 10);
  EXPECT_EQ(document["problems"][0]["row"], 11);
  EXPECT_EQ(document["clean"], false);
  EXPECT_GT(document["tokens"]["p50"].get<int>(), 10);
  const Json without = data_check(bad.string(), "", "", 64, true);
  EXPECT_TRUE(without["tokens"].is_null()) << "nothing is counted that no tokenizer has cut";
  // "where did my lamp 0 go" and "order" are 27, so are "money back for lamp 1" and "refund"; two rows on phones and two on chairs have 28
  EXPECT_EQ(without["characters"], Json({{"p50", 28}, {"p90", 29}, {"max", 29}}));
}

TEST_F(StagesTest, RowsThatStandInBothFilesAreLeaks) {
  const Json document = data_check(tickets("a.jsonl", 20).string(), tickets("b.jsonl", 20, 10).string(), "", 64, true);
  EXPECT_EQ(document["rows"], 40);
  EXPECT_EQ(document["split"], Json({{"train", 20}, {"held_out", 20}}));
  EXPECT_GE(document["leaks"].get<int>(), 10);
}

TEST_F(StagesTest, AReportsCommandMakesTheRunAgainBesideIt) {
  context.command = {"fit", "my rows.jsonl", "--out", "runs/a", "--json", "--force", "--epochs", "2"};
  EXPECT_EQ(fresh_command(context), "fettle fit 'my rows.jsonl' --epochs 2");
  context.command = {"fit", "d.jsonl", "--out=runs/a", "-o"};
  EXPECT_EQ(fresh_command(context), "fettle fit d.jsonl");
}

TEST_F(StagesTest, WhyAnswersAreFreeIsSaid) {
  const auto rows = [&](const char* name, int n, auto answer) {
    std::string text;
    for (int i = 0; i < n; i++) text += Json{{"prompt", "question " + std::to_string(i)}, {"completion", answer(i)}}.dump() + "\n";
    return read_dataset(file(name, text).string()).examples;
  };
  const auto two = [](int i) { return i % 2 ? "yes" : "no"; };
  EXPECT_EQ(why_free_answers(rows("a.jsonl", 12, two), rows("b.jsonl", 4, two)), "");
  EXPECT_EQ(why_free_answers(rows("a.jsonl", 12, two), rows("c.jsonl", 4, [](int i) { return i ? "yes" : "perhaps"; })),
            "the held-out answer \"perhaps\" stands in no training row");
  EXPECT_EQ(why_free_answers(rows("d.jsonl", 12, [](int i) { return std::to_string(i); }), {}), "12 different answers in 12 training rows");
  EXPECT_EQ(why_free_answers(rows("e.jsonl", 12, [](int) { return "yes"; }), {}), "the training rows have one answer");
}

TEST_F(StagesTest, TuneLeavesAWholeRun) {
  const fs::path out = folder / "run";
  const Json document = tune_stage(tuning(out), context);
  for (const char* key : {"run", "adapter", "steps", "epochs", "tokens", "tokens_per_s", "trained_parameters", "first_loss", "last_loss",
                          "best_eval_loss", "stopped_because"})
    EXPECT_TRUE(document.contains(key)) << key;
  EXPECT_LT(document["last_loss"].get<double>(), document["first_loss"].get<double>());
  for (const char* name :
       {"adapter.gguf", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "metrics.jsonl", "recipe.json", "run.json"})
    EXPECT_TRUE(fs::exists(out / name)) << name;
  EXPECT_FALSE(read_lora(out / "adapter.gguf", {}).pairs.empty());
  const Json recipe = Json::parse(read_text(out / "recipe.json"));
  EXPECT_EQ(recipe["inputs"]["base"], sha256_file(folder / "tiny.gguf"));

  EXPECT_TRUE(contains(complaint([&] { tune_stage(tuning(out), context); }), "--resume"));
  StageContext resume = context;
  resume.resume = true;
  EXPECT_EQ(tune_stage(tuning(out), resume), document) << "what is done is not done again";
  StageContext force = context;
  force.force = true;
  EXPECT_EQ(tune_stage(tuning(out), force)["last_loss"], document["last_loss"]) << "the same run gives the same numbers";
  // a folder that is not ours is never emptied
  fs::create_directories(folder / "mine");
  write_text(folder / "mine" / "thesis.txt", "x");
  EXPECT_NE(complaint([&] { tune_stage(tuning(folder / "mine"), force); }), "");
  EXPECT_TRUE(fs::exists(folder / "mine" / "thesis.txt"));
}

TEST_F(StagesTest, ResumeNeverOverwritesAnotherRun) {
  const fs::path out = folder / "run";
  StageContext again = context;
  again.resume = true;
  EXPECT_TRUE(contains(complaint([&] { tune_stage(tuning(out), again); }), "holds no run to go on with"));
  TuneArguments wrong = tuning(out);
  wrong.options.alpha = 0;
  EXPECT_NE(complaint([&] { tune_stage(wrong, context); }), "");
  EXPECT_FALSE(fs::exists(out)) << "a refused run leaves no folder in the way of the next";
  tune_stage(tuning(out), context);
  const std::string adapter = sha256_file(out / "adapter.gguf");
  TuneArguments other = tuning(out);
  other.options.rank = 2;
  EXPECT_TRUE(contains(complaint([&] { tune_stage(other, again); }), "other options"));
  EXPECT_EQ(sha256_file(out / "adapter.gguf"), adapter);
  tune_stage(tuning(out), again);
  EXPECT_EQ(sha256_file(out / "adapter.gguf"), adapter) << "its own options find it done";
}

TEST_F(StagesTest, MemoryThatDoesNotSufficeIsRefused) {
  TuneArguments a = tuning(folder / "run");
  a.options.memory_bytes = 1000000;
  StageContext small = context;
  small.memory_bytes = 1000000;
  EXPECT_TRUE(contains(complaint([&] { tune_stage(a, small); }), "--memory"));
}

TEST_F(StagesTest, PlansCountEveryStage) {
  StageContext dry = context;
  dry.dry_run = true;
  const double training = tune_stage(tuning(folder / "run"), dry)["plan"]["seconds"];
  const double whole = fit(fitting(folder / "run"), dry)["plan"]["seconds"];
  EXPECT_GT(whole, training);
  FitArguments hurried = fitting(folder / "run");
  hurried.seconds = 1e-6;
  const std::string said = complaint([&] { fit(hurried, dry); });
  EXPECT_TRUE(contains(said, "too short") && contains(said, "at least")) << said;
}

TEST_F(StagesTest, FullTuningLeavesAWholeModel) {
  TuneArguments a = tuning(folder / "run");
  a.options.method = "full";
  a.options.lr = 1e-3;
  const Json document = tune_stage(a, context);
  EXPECT_TRUE(document["adapter"].is_null());
  auto base = Model::open(folder / "tiny.gguf"), trained = Model::open(document["model"].get<std::string>());
  EXPECT_STREQ(trained->find_linear("blk.0.attn_q.weight")->weight.format->name, "F16");
  EXPECT_STREQ(trained->embedding.weight.format->name, "F32") << "what was not trained stays as it was";
  std::vector<TokenRow> rows;
  const ChatFormat format = base->chat_format();
  for (const Example& e : read_dataset(a.data).examples) rows.push_back(format.train_row(e));
  Pool pool(1);
  EXPECT_LT(evaluate_loss(*trained, rows, Precision::exact, pool), evaluate_loss(*base, rows, Precision::exact, pool));
}

TEST_F(StagesTest, TunePlansWithoutDoing) {
  StageContext dry = context;
  dry.dry_run = true;
  const Json document = tune_stage(tuning(folder / "run"), dry);
  EXPECT_GT(document["plan"]["steps"].get<int>(), 0);
  EXPECT_FALSE(fs::exists(folder / "run"));
}

TEST_F(StagesTest, TuneOnReadyRows) {
  TuneArguments a = tuning(folder / "run");
  a.data.clear();
  a.ids_file =
      file("rows.jsonl", "{\"ids\": [1, 2, 3, 4], \"labels\": [-100, 2, 3, 4]}\n\n{\"ids\": [5, 6], \"labels\": [-100, 6]}\n").string();
  EXPECT_EQ(tune_stage(a, context)["steps"], 2);
  struct Case {
    const char *line, *word;
  };
  for (const Case& c :
       {Case{"{\"ids\": [1, 2]}", "labels"}, Case{"{\"ids\": [1, 999], \"labels\": [-100, 2]}", "999"},
        Case{"{\"ids\": [-100, 2], \"labels\": [-100, 2]}", "-100"}, Case{"{\"ids\": [1, 2, 3], \"labels\": [1, 2]}", "3 ids and 2 labels"},
        Case{"[1]", "ids"}, Case{"{\"ids\": [1.5, 2], \"labels\": [1, 2]}", "1.5"}, Case{"{", "JSON"}, Case{"", "no rows"}}) {
    a.ids_file = file("rows.jsonl", c.line).string();
    a.out = folder / "other";
    EXPECT_TRUE(contains(complaint([&] { tune_stage(a, context); }), c.word)) << c.line;
  }
}

int64_t lines(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return 0;
  const std::string text = read_text(path);
  return std::count(text.begin(), text.end(), '\n');
}

// Ctrl-C (or kill -9) amid training, then --resume: the very adapter that a run in one piece makes.
TEST_F(StagesTest, StoppedAndResumedIsTheSameRun) {
  FitArguments a = fitting(folder / "whole");
  a.options.epochs = 60;
  a.options.checkpoint_every = 10;
  const Json whole = fit(a, context);
  for (const int signal : {SIGINT, SIGKILL}) {
    a.out = folder / ("stopped-" + std::to_string(signal));
    const pid_t pid = ::fork();
    if (pid == 0) {
      install_interrupt_handler();
      int code = 0;
      try {
        fit(a, context);
      } catch (const Error& error) {
        code = error.code == Exit::interrupted && contains(error.hint, "--resume") && contains(error.hint, a.out.string()) ? 130 : 1;
      }
      ::_exit(code);
    }
    while (lines(a.out / "metrics.jsonl") < 25 && ::waitpid(pid, nullptr, WNOHANG) == 0) ::usleep(500);
    ::kill(pid, signal);
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid) << "it ended before it could be stopped";
    EXPECT_EQ(signal == SIGINT ? WEXITSTATUS(status) : WTERMSIG(status), signal == SIGINT ? 130 : SIGKILL);
    StageContext resume = context;
    resume.resume = true;
    const Json resumed = fit(a, resume);
    EXPECT_EQ(sha256_file(a.out / "adapter.gguf"), sha256_file(folder / "whole" / "adapter.gguf"));
    EXPECT_EQ(resumed["table"][2]["score"], whole["table"][2]["score"]);
    EXPECT_EQ(lines(a.out / "metrics.jsonl"), lines(folder / "whole" / "metrics.jsonl"));
  }
}

// Ctrl-C before anything was done: no folder is left, and none is promised.
TEST_F(StagesTest, StoppedBeforeItBeganLeavesNothing) {
  const fs::path out = folder / "run";
  const std::function<void()> runs[] = {[&] { fit(fitting(out), context); }, [&] { tune_stage(tuning(out), context); }};
  for (const auto& run : runs) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      install_interrupt_handler();
      ::raise(SIGINT);
      const std::string said = complaint(run);
      ::_exit(contains(said, "interrupted") && !contains(said, "--resume") && !contains(said, "kept; go on") ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    EXPECT_FALSE(fs::exists(out));
  }
}

TEST_F(StagesTest, ARunFolderKnowsWhetherItHoldsAnything) {
  const fs::path out = folder / "run";
  {
    RunFolder run(out, "tune", "tickets", context);
    run.begin("tune", "key");
    EXPECT_TRUE(contains(run.way_on(context), "starts anew") && !contains(run.way_on(context), "--resume"));
  }
  EXPECT_FALSE(fs::exists(out));
  fs::create_directories(out);
  write_text(out / "lock", "1\n");  // of one that was killed at once
  {
    RunFolder run(out, "tune", "tickets", context);
    run.begin("tune", "key");
    fs::create_directories(run.file("checkpoint"));
    EXPECT_TRUE(contains(run.way_on(context), "go on with: fettle fit tickets.jsonl --out " + out.string() + " --resume"));
  }
  StageContext resume = context;
  resume.resume = true;
  EXPECT_TRUE(RunFolder(out, "tune", "tickets", resume).begin("tune", "key"));
}

}  // namespace
}  // namespace fettle
