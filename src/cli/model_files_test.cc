// Model files that are no good, as commands tell it.
#include "../../tests/broken_model.h"
#include "../../tests/tiny_folder.h"
#include "cli/test_program.h"

namespace fettle {
namespace {

// The matrix is named by whatever computes with it, and the code is that of an input that is refused.
TEST_F(Program, AMatrixThatIsNotFiniteIsARefusedInput) {
  write_broken(tiny(), at("broken.gguf"), "blk.1.ffn_up.weight");
  file("rows.jsonl", row("one", "a") + row("two", "b") + row("three", "a"));
  file("text.txt", "abcdefghij abcdefghij abcdefghij");
  file("ids.json", "[1, 2, 3]");
  for (const char* line :
       {"run broken.gguf --raw abc", "run broken.gguf question --choice a --choice b", "embed broken.gguf abc",
        "logits broken.gguf --ids ids.json --out x.npy", "eval broken.gguf --data rows.jsonl --task exact",
        "eval broken.gguf --data rows.jsonl --task choice", "eval broken.gguf --data text.txt --chunk-tokens 8 --task perplexity",
        "eval broken.gguf --data text.txt --chunk-tokens 8 --task kl --reference tiny.gguf",
        "eval tiny.gguf --data text.txt --chunk-tokens 8 --task kl --reference broken.gguf",
        "compare tiny.gguf broken.gguf --data rows.jsonl", "tune broken.gguf rows.jsonl --max-steps 1 --out run",
        "tune tiny.gguf rows.jsonl --teacher broken.gguf --out run", "quantize broken.gguf --type Q4_0 --out small.gguf",
        "quantize broken.gguf --type Q4_0 --importance rows.jsonl --out small.gguf"}) {
    const Outcome end = run(line);
    EXPECT_EQ(end.code, 3) << line << "\n" << end.err;
    EXPECT_NE(end.err.find("broken.gguf: tensor blk.1.ffn_up.weight: holds weights that are not finite"), std::string::npos) << line << "\n"
                                                                                                                             << end.err;
  }
}

// A file that cannot run is looked into all the same, and why it cannot is said.
TEST_F(Program, InspectSaysWhatCannotRunAndShowsIt) {
  const Gguf whole(tiny());
  const auto changed = [&](const char* name, const std::function<void(GgufWriter&)>& change, const std::string& without = "") {
    GgufWriter writer;
    writer.copy_metadata(whole);
    change(writer);
    for (const NamedTensor& t : whole.tensors())
      if (t.name != without) writer.add(t.name, t.tensor.format, t.tensor.shape, [&t] { return t.tensor.bytes; });
    writer.write(at(name));
  };
  changed("zebra.gguf", [](GgufWriter& w) { w.set_string("general.architecture", "zebra"); });
  changed(
      "part.gguf", [](GgufWriter&) {}, "blk.1.ffn_up.weight");
  changed("mute.gguf", [](GgufWriter& w) { w.erase("tokenizer.ggml.tokens"); });
  TinyFolder(whole).write(at("zebra"));
  Json config = Json::parse(read_text(at("zebra/config.json")));
  config["model_type"] = "zebra";
  file("zebra/config.json", config.dump());
  TinyFolder(whole).write(at("mute"));
  fs::remove(at("mute/tokenizer.json"));
  const size_t all = whole.tensors().size();
  const std::tuple<const char*, size_t, const char*> table[] = {{"zebra.gguf", all, "architecture 'zebra' is not supported"},
                                                                {"part.gguf", all - 1, "\"blk.1.ffn_up.weight\" is missing"},
                                                                {"mute.gguf", all, "the tokenizer has no tokens"},
                                                                {"zebra/", all, "model_type 'zebra' is not supported"},
                                                                {"mute/", all, "has no tokenizer.json"}};
  for (const auto& [name, tensors, says] : table) {
    const Outcome end = run(std::string("inspect --json ") + name);
    ASSERT_EQ(end.code, 0) << name << end.err;
    const Json seen = end.json();
    EXPECT_EQ(seen["runs"], false) << name;
    EXPECT_NE(seen["why_not"].get<std::string>().find(says), std::string::npos) << seen["why_not"];
    EXPECT_EQ(seen["tensors"].size(), tensors) << name;
    EXPECT_EQ(seen["types"]["F32"]["tensors"], tensors) << name;
    EXPECT_GT(seen["parameters"], 0) << name;
    const Outcome words = run(std::string("inspect ") + name);
    EXPECT_NE(words.out.find("no: "), std::string::npos) << words.out;
    EXPECT_NE(words.out.find(says), std::string::npos) << words.out;
  }
  const Json good = run("inspect tiny.gguf --json").json();
  EXPECT_EQ(good["runs"], true);
  EXPECT_TRUE(good["why_not"].is_null());
  EXPECT_NE(run("pull zebra.gguf").err.find("cannot run: "), std::string::npos);
  EXPECT_EQ(run("pull tiny.gguf").err.find("warning"), std::string::npos);
}

// Before a model is fetched or read, let alone worked on.
TEST_F(Program, ValuesThatNothingCanHaveAreRefusedFirst) {
  file("rows.jsonl", row("one", "a") + row("two", "b"));
  const std::pair<const char*, const char*> table[] = {
      {"quantize absent.gguf --type Q4_9", "there is no type 'Q4_9'"},
      {"quantize absent.gguf --type IQ1_S", "does not write it"},
      {"quantize absent.gguf --tensor token_embd=Q9", "there is no type 'Q9'"},
      {"quantize absent.gguf --tensor token_embd", "is not NAME=TYPE"},
      {"quantize absent.gguf --method best", "there is no method 'best'"},
      {"quantize absent.gguf --bits -3", "--bits: from 0 to 32"},
      {"quantize absent.gguf --importance rows.jsonl --importance-rows 0", "--importance-rows: at least 1"},
      {"convert absent.gguf --type Q4_9", "there is no type 'Q4_9'"},
      {"convert absent.gguf --to ollama --type Q4_9", "there is no type 'Q4_9'"},
      {"convert absent.gguf --to hf --type Q8_0", "holds floats, not Q8_0"},
      {"convert absent.gguf --to gptq --bits 5", "there are 2, 3, 4 and 8 bits"},
      {"convert absent.gguf --to awq --bits 8", "AWQ has 4 bits"},
      {"convert absent.gguf --to gptq --group 48", "groups of 32, 64 and 128"},
      {"merge absent.gguf absent --type Q9", "there is no type 'Q9'"},
      {"bench --shape llama-1b --type Q9", "'Q9' is no format"},
      {"eval absent.gguf --data rows.jsonl --task exakt", "exakt"},
      {"tune absent.gguf rows.jsonl --lr -1", "--lr: not below 0"}};
  for (const auto& [line, says] : table) {
    const Outcome end = run(line);
    EXPECT_EQ(end.code, 2) << line << "\n" << end.err;
    EXPECT_TRUE(end.err.starts_with("error: ")) << line << "\n" << end.err;
    EXPECT_NE(end.err.find(says), std::string::npos) << line << "\n" << end.err;
  }
  tiny();
  const Outcome late = run("quantize tiny.gguf --importance rows.jsonl --tensor nothing=Q8_0 --out small.gguf");
  EXPECT_EQ(late.code, 2);
  EXPECT_TRUE(late.err.starts_with("error: no weight's name contains 'nothing'")) << late.err;
}

// What help says fits a window, and shows no default that stands for "not given".
TEST_F(Program, HelpIsWhole) {
  std::vector<std::string> pages = {run("--help").out};
  for (const Command* c : commands()) pages.push_back(run(std::string(c->name) + " --help").out);
  for (const std::string& page : pages)
    for (const std::string& line : split(page, '\n')) {
      const auto shown = std::count_if(line.begin(), line.end(), [](char c) { return (c & '\xC0') != '\x80'; });
      EXPECT_LE(shown, 100) << line;
    }
  for (const Command* c : commands()) {
    Invocation call;
    set_up(*c, call);
    for (const Option& o : call.options.all()) {
      const bool means_not_given = o.name() == "--group" || o.name() == "--bits" || o.name() == "--kl" || o.name() == "--lr";
      EXPECT_FALSE(means_not_given && o.value == "0") << c->name << " " << o.name();
    }
  }
}

}  // namespace
}  // namespace fettle
