// The program as people call it, when it has been built beside this test: exit codes, documents, files.
#include "cli/test_program.h"

namespace fettle {
namespace {

TEST_F(Program, ExitCodesAndErrors) {
  EXPECT_EQ(run("--version").code, 0);
  EXPECT_EQ(run("").code, 0);
  Outcome slip = run("quantise x");
  EXPECT_EQ(slip.code, 2);
  EXPECT_TRUE(slip.out.empty());
  EXPECT_NE(slip.err.find("error: "), std::string::npos);
  EXPECT_NE(slip.err.find("hint: "), std::string::npos);
  write_text(scratch_.path() / "bad.gguf", "GGUF");
  Outcome refused = run("inspect bad.gguf --json");
  EXPECT_EQ(refused.code, 3);
  Json document = Json::parse(refused.out);
  EXPECT_EQ(document["command"], "inspect");
  EXPECT_EQ(document["ok"], false);
  for (const char* key : {"code", "message", "place", "hint"}) EXPECT_TRUE(document["error"].contains(key)) << key;
}

TEST_F(Program, AClosedPipeIsAQuietEndAndAFullDiskIsNot) {
  const std::string line =
      "bash -c \"" + program_.string() + " man 2>" + (scratch_.path() / "err").string() + " | true; exit \\${PIPESTATUS[0]}\"";
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 0);
  EXPECT_EQ(read_text(scratch_.path() / "err"), "");
  for (const char* command : {"man", "--help", "completion bash --json"}) {
    const int full = std::system((program_.string() + " " + command + " >/dev/full 2>/dev/null").c_str());
    EXPECT_EQ(WEXITSTATUS(full), 1) << command;
  }
}

TEST_F(Program, TokenizeAndBack) {
  std::string model = tiny().string();
  std::string text = "Grüße <|im_end|>\n two\n";
  Outcome ids = run("tokenize " + model, text);
  ASSERT_EQ(ids.code, 0) << ids.err;
  EXPECT_EQ(Json::parse(ids.out).size(), text.size());  // a byte a token: the special token's spelling is text
  EXPECT_EQ(run("detokenize " + model, ids.out).out, text);
  Outcome special = run("tokenize " + model + " --special --lines", text);
  EXPECT_EQ(std::count(special.out.begin(), special.out.end(), '\n'), 2);
  EXPECT_EQ(run("detokenize " + model + " --special --lines", special.out).out, text);
  EXPECT_EQ(run("detokenize " + model, "[1, 99999]").code, 3);
}

TEST_F(Program, LogitsAreARightNumpyFile) {
  write_text(scratch_.path() / "ids.json", "[1, 2, 3, 4, 5]");
  for (const char* how : {"f32", "auto"}) {
    Outcome done = run("logits " + tiny().string() + " --ids ids.json --out x.npy --json --activations " + how);
    ASSERT_EQ(done.code, 0) << done.err;
    std::string file = read_text(scratch_.path() / "x.npy");
    size_t data = 5 * size_t(TinyModel::kVocabulary) * 4;
    ASSERT_GT(file.size(), data);
    EXPECT_EQ((file.size() - data) % 64, 0u);
    EXPECT_NE(file.find("'shape': (5, 259)"), std::string::npos);
  }
}

TEST_F(Program, RunGreedyIsTheArgmaxOfTheDoors) {
  Outcome first = run("run " + tiny().string() + " --raw --temperature 0 --max-tokens 8 abc");
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(run("run " + tiny().string() + " --raw --temperature 0 --max-tokens 8", "abc").out, first.out);
  Outcome document = run("run " + tiny().string() + " --raw --temperature 0 --max-tokens 8 abc --json");
  EXPECT_EQ(Json::parse(document.out)["answer"], first.out);
  Outcome one = run("run " + tiny().string() + " --choice yes --choice no --json really");
  std::string answer = Json::parse(one.out)["answer"];
  EXPECT_TRUE(answer == "yes" || answer == "no") << answer;
}

TEST_F(Program, ADraftChangesNoAnswerAndHasTheSameTokens) {
  tiny();
  TinyModel{.layers = 1}.write(at("small.gguf"));
  EXPECT_EQ(run("run tiny.gguf --draft small.gguf --raw --max-tokens 8 abc").out, run("run tiny.gguf --raw --max-tokens 8 abc").out);
  TinyModel{.other_ends = true}.write(at("other.gguf"));
  for (const char* command : {"run tiny.gguf hello", "chat tiny.gguf", "serve tiny.gguf --port 0"}) {
    const Outcome refused = run(std::string(command) + " --draft other.gguf");
    EXPECT_EQ(refused.code, 3) << command;
    EXPECT_NE(refused.err.find("other.gguf: has other tokens than"), std::string::npos) << refused.err;
  }
}

TEST_F(Program, OutputsAreNotReplacedUnlessForced) {
  write_text(scratch_.path() / "there.gguf", "mine");
  std::string command = "convert " + tiny().string() + " --type Q8_0 --out there.gguf";
  EXPECT_EQ(run(command).code, 2);
  EXPECT_EQ(read_text(scratch_.path() / "there.gguf"), "mine");
  Outcome forced = run(command + " --force --json");
  ASSERT_EQ(forced.code, 0) << forced.err;
  Json inspected = Json::parse(run("inspect there.gguf --json").out);
  EXPECT_EQ(inspected["architecture"], "llama");
  EXPECT_EQ(inspected["digest"].get<std::string>().size(), 64u);
  EXPECT_TRUE(inspected["types"].contains("Q8_0"));
  EXPECT_EQ(Json::parse(run("diff there.gguf there.gguf --json").out)["identical"], true);
  EXPECT_EQ(run("convert there.gguf --to zip").code, 2);
}

// What cannot run is not made smaller; a copy that loses nothing is made, with a warning.
TEST_F(Program, WhatCannotRunIsNotQuantized) {
  const fs::path strange = scratch_.path() / "strange.gguf";
  {
    const Gguf from(tiny());
    GgufWriter writer;
    writer.copy_metadata(from);
    for (const NamedTensor& t : from.tensors())
      if (t.name != "blk.1.ffn_up.weight") writer.add(t.name, t.tensor.format, t.tensor.shape, [&t] { return t.tensor.bytes; });
    writer.write(strange);
  }
  for (const char* line : {"quantize strange.gguf --type Q4_1 --out never.gguf", "quantize strange.gguf --size 90kB --dry-run",
                           "convert strange.gguf --type F16 --out never.gguf"}) {
    const Outcome done = run(line);
    EXPECT_EQ(done.code, 3) << line;
    EXPECT_NE(done.err.find("strange.gguf: tensor \"blk.1.ffn_up.weight\" is missing"), std::string::npos) << done.err;
  }
  EXPECT_FALSE(fs::exists(scratch_.path() / "never.gguf"));
  const Outcome copied = run("convert strange.gguf --type F32 --out copy.gguf");
  EXPECT_EQ(copied.code, 0) << copied.err;
  EXPECT_NE(copied.err.find("warning: "), std::string::npos);
  EXPECT_NE(copied.err.find("blk.1.ffn_up.weight"), std::string::npos);
  EXPECT_EQ(Gguf(scratch_.path() / "copy.gguf").tensors().size(), Gguf(strange).tensors().size());
}

TEST_F(Program, QuantizeKnowsWhatAMergedModelWasTrainedFrom) {
  fs::path base = scratch_.path() / "base.gguf";
  TinyModel coarse;
  coarse.format = "Q4_1";
  coarse.write(base);
  std::string rows;
  for (int i = 0; i < 40; i++)
    rows += "{\"messages\": [{\"role\": \"user\", \"content\": \"number " + std::to_string(i) +
            "\"}, {\"role\": \"assistant\", \"content\": \"it is " + std::to_string(i) + "\"}]}\n";
  write_text(scratch_.path() / "rows.jsonl", rows);
  ASSERT_EQ(run("tune base.gguf rows.jsonl --rank 2 --max-steps 2 --out run -q").code, 0);
  ASSERT_EQ(run("merge base.gguf run/adapter.gguf --out tuned.gguf -q").code, 0);
  Outcome small = run("quantize tuned.gguf --type Q4_1 --importance rows.jsonl --heal 20s --out small.gguf --json");
  ASSERT_EQ(small.code, 0) << small.err;
  EXPECT_NE(small.err.find("trained from " + base.string()), std::string::npos) << small.err;
  Json document = Json::parse(small.out);
  EXPECT_NE(document["remarks"].dump().find("the type that the model had before it was trained"), std::string::npos) << document.dump(1);
  EXPECT_EQ(document["stages"].back()["stage"], "heal");
  EXPECT_TRUE(document["stages"].back()["kl_after"].is_number());
  EXPECT_FALSE(fs::exists(scratch_.path() / "small.gguf.heal"));
  EXPECT_EQ(run("run small.gguf hello --max-tokens 2").code, 0);
  fs::rename(base, scratch_.path() / "moved.gguf");
  EXPECT_EQ(run("quantize tuned.gguf --type Q4_1 --out other.gguf --json").err.find("trained from"), std::string::npos);
  EXPECT_NE(run("quantize tuned.gguf --type Q4_1 --base moved.gguf --out other.gguf --force").err.find("trained from"), std::string::npos);
  EXPECT_EQ(run("quantize tuned.gguf --heal 1m --out never.gguf").code, 2);
  EXPECT_EQ(run("quantize tuned.gguf --size 90kB --importance x.imatrix --heal 1m --out never.gguf").code, 2);
  EXPECT_EQ(run("quantize tuned.gguf --size 1kB --dry-run").code, 3);
  // An adapter goes onto another model with a warning only, and nothing but an older .npy is written over by logits.
  EXPECT_NE(run("merge tuned.gguf run/adapter.gguf --out twice.gguf").err.find("was trained on"), std::string::npos);
  write_text(scratch_.path() / "ids.json", "[1, 2, 3]");
  EXPECT_EQ(run("logits small.gguf --ids ids.json --out tuned.gguf").code, 2);
  EXPECT_EQ(run("logits small.gguf --ids ids.json --out x.npy").code, 0);
  EXPECT_EQ(run("logits small.gguf --ids ids.json --out x.npy").code, 0);
}

TEST_F(Program, EveryCommandHelps) {
  for (const Command* c : commands()) {
    Outcome help = run(std::string(c->name) + " --help");
    EXPECT_EQ(help.code, 0) << c->name;
    EXPECT_TRUE(help.out.starts_with(std::string("fettle ") + c->name)) << c->name;
    EXPECT_TRUE(help.err.empty()) << help.err;
  }
}

TEST_F(Program, DataCommandsReadAndWrite) {
  std::string rows;
  for (int i = 0; i < 20; i++)
    rows += Json{{"prompt", "question " + std::to_string(i * 7919)}, {"completion", "answer " + std::to_string(i)}}.dump() + "\n";
  write_text(scratch_.path() / "d.jsonl", rows);
  Outcome split = run("data split d.jsonl --held-out 0.25 --out parts --json");
  ASSERT_EQ(split.code, 0) << split.err;
  Json document = Json::parse(split.out);
  EXPECT_EQ(document["train_rows"].get<int>() + document["held_out_rows"].get<int>(), 20);
  EXPECT_EQ(run("data split d.jsonl --held-out 0.25 --out parts").code, 2);
  Outcome converted = run("data convert d.jsonl");
  EXPECT_EQ(std::count(converted.out.begin(), converted.out.end(), '\n'), 20);
  EXPECT_TRUE(Json::parse(converted.out.substr(0, converted.out.find('\n'))).contains("messages"));
  write_text(scratch_.path() / "broken.jsonl", rows + "{not json\n");
  EXPECT_EQ(run("data convert broken.jsonl").code, 3);
  EXPECT_EQ(run("data convert broken.jsonl --skip-bad").code, 0);
}

TEST_F(Program, WhatWouldBeRemovedIsSaid) {
  ASSERT_EQ(run("pull " + tiny().string()).code, 0);
  ASSERT_EQ(run("tag tiny:1 tiny:live").code, 0);
  const Outcome would = run("rm tiny:1 --dry-run");
  EXPECT_EQ(would.code, 0) << would.err;
  EXPECT_EQ(would.out, "would remove tiny:1\nwould go with it: the tag tiny:live\n");
  EXPECT_EQ(run("rm tiny:1").out, "removed tiny:1\ngone with it: the tag tiny:live\n");
}

TEST_F(Program, AnInstructionSetThatIsNotThereIsRefused) {
  setenv("FETTLE_ISA", "abacus", 1);
  const Outcome end = run("list");
  unsetenv("FETTLE_ISA");
  EXPECT_EQ(end.code, 2);
  EXPECT_NE(end.err.find("portable"), std::string::npos) << end.err;
}

TEST_F(Program, ADataFileThatIsNotThereIsToldBeforeABaseIsFetched) {
  const Outcome end = run("fit absent.jsonl --offline");
  EXPECT_EQ(end.code, 3);
  EXPECT_NE(end.err.find("absent.jsonl"), std::string::npos) << end.err;
  EXPECT_EQ(end.err.find("stage 1"), std::string::npos) << end.err;
}

TEST_F(Program, ServersAreListedAndStopped) {
  EXPECT_EQ(run("stop").code, 2);
  EXPECT_TRUE(Json::parse(run("ps --json").out)["servers"].empty());
  const fs::path folder = scratch_.path() / "home" / "run";
  // left behind by servers that are gone: a number nobody has, one that another program has, one that was given again, and garbage
  const std::string rest = ", \"url\": \"u\", \"port\": 1, \"models\": [\"m\"], \"started\": \"s\"}";
  fs::create_directories(folder);
  write_text(folder / "1.json", "{\"pid\": 4194303, \"ticks\": 1" + rest);
  write_text(folder / "2.json", "{\"pid\": " + std::to_string(::getpid()) + ", \"ticks\": 1" + rest);
  write_text(folder / "3.json", "{\"pid\": \"x\"}");
  const std::string line = "cd " + scratch_.path().string() + " && FETTLE_HOME=" + (scratch_.path() / "home").string() + " setsid " +
                           program_.string() + " serve " + tiny().string() + " --port 0 --context 64 > served 2>&1 < /dev/null &";
  ASSERT_EQ(std::system(line.c_str()), 0);
  Json servers;
  for (int i = 0; i < 300 && servers.empty(); i++) {
    servers = Json::parse(run("ps --json").out)["servers"];
    if (servers.empty()) ::usleep(50000);
  }
  ASSERT_EQ(servers.size(), 1u) << read_text(scratch_.path() / "served");
  EXPECT_EQ(servers[0]["models"], Json::array({"tiny"}));
  EXPECT_FALSE(fs::exists(folder / "1.json") || fs::exists(folder / "2.json") || fs::exists(folder / "3.json"));
  EXPECT_NE(run("ps").out.find(servers[0]["url"].get<std::string>()), std::string::npos);
  EXPECT_EQ(run("stop other").code, 2);
  const Outcome stopped = run("stop " + servers[0]["port"].dump());
  EXPECT_EQ(stopped.code, 0) << stopped.err;
  EXPECT_NE(stopped.out.find("stopped http://127.0.0.1"), std::string::npos);
  EXPECT_TRUE(Json::parse(run("ps --json").out)["servers"].empty());
  EXPECT_TRUE(fs::is_empty(folder)) << "a server that ends in order takes its file away";
}

}  // namespace
}  // namespace fettle
