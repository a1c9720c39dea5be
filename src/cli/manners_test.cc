// What commands do with input that is none, and what their documents say, asked of the program itself.
#include "cli/test_program.h"

namespace fettle {
namespace {

TEST_F(Program, VersionIsTheProgramsInEveryDocument) {
  const Json pulled = run("pull " + tiny().string() + " --json").json();
  const std::string version = Json::parse(run("list --json").out)["version"];
  EXPECT_EQ(version, FETTLE_VERSION);
  const Json shown = run("show tiny:1 --json").json(), listed = run("list --json").json()["models"][0];
  for (const Json& document : {pulled, shown}) EXPECT_EQ(document["version"], version) << document;
  for (const Json& model : {pulled, shown, listed}) {
    EXPECT_EQ(model["model"], "tiny:1");
    EXPECT_EQ(model["model_version"], 1) << model;
  }
}

TEST_F(Program, SplitNeedsTwoQuestions) {
  file("empty.jsonl", "");
  file("head.csv", "text,label\n");
  file("one.jsonl", row("q", "a"));
  file("same.jsonl", row("q", "a") + row("q", "b"));
  file("bad.jsonl", "{}\n");
  const std::pair<const char*, const char*> table[] = {{"empty.jsonl", "holds no rows"},
                                                       {"head.csv", "holds no rows"},
                                                       {"one.jsonl", "one row"},
                                                       {"same.jsonl", "one question"},
                                                       {"bad.jsonl --skip-bad", "no row that can be used"}};
  for (const auto& [arguments, says] : table) {
    const Outcome end = run(std::string("data split ") + arguments + " --out parts");
    EXPECT_EQ(end.code, 3) << arguments;
    EXPECT_NE(end.err.find(says), std::string::npos) << end.err;
    EXPECT_FALSE(fs::exists(at("parts"))) << arguments;
  }
}

TEST_F(Program, SplitLeavesNoSideEmptyAndNamesFilesAfterTheFolder) {
  fs::create_directories(at("rows"));
  file("rows/a.jsonl", row("one", "a") + row("two", "b") + row("three", "c"));
  for (const char* share : {"0.001", "0.999"}) {
    const Outcome end = run(std::string("data split rows/ --out parts --force --held-out ") + share);
    EXPECT_EQ(end.code, 0) << end.err;
    EXPECT_NE(end.out.find("1 row\n"), std::string::npos) << end.out;
    for (const char* name : {"parts/rows-train.jsonl", "parts/rows-heldout.jsonl"}) EXPECT_GT(fs::file_size(at(name)), 0u) << share;
  }
}

TEST_F(Program, AQuestionHasWords) {
  tiny();
  for (const char* arguments : {"''", "'  '", "' ' ' '"}) {
    const Outcome end = run(std::string("run tiny.gguf ") + arguments);
    EXPECT_EQ(end.code, 3) << arguments;
    EXPECT_NE(end.err.find("PROMPT"), std::string::npos) << end.err;
    EXPECT_TRUE(end.out.empty());
  }
  for (const char* input : {"", "\n", " \n"}) {
    const Outcome end = run("run tiny.gguf", input);
    EXPECT_EQ(end.code, 3);
    EXPECT_NE(end.err.find("stdin"), std::string::npos) << end.err;
  }
  EXPECT_EQ(run("run tiny.gguf --raw --max-tokens 2 ' '").code, 0) << "plain text may be spaces";
}

}  // namespace
}  // namespace fettle
