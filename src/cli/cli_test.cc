// The command table as people and shells meet it: parsing, slips, help, the man page, fettle.toml.
#include "cli/cli.h"

#include <gtest/gtest.h>

#include <set>

#include "../../tests/tiny_model.h"
#include "cli/bench_shape.h"
#include "cli/bench_work.h"
#include "cli/table.h"
#include "cli/training_flags.h"

namespace fettle {
namespace {

// A folder to work in; the test's own folder is restored.
class WorkFolder {
 public:
  WorkFolder() : before_(fs::current_path()) { fs::current_path(scratch_.path()); }
  ~WorkFolder() { fs::current_path(before_); }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

 private:
  ScratchFolder scratch_;
  fs::path before_;
};

// Words of a line as a shell would split them: quotes group, a redirection or pipe ends.
std::vector<std::string> shell_words(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  bool any = false;
  char quote = 0;
  for (char c : line + " ") {
    if (quote) {
      if (c == quote)
        quote = 0;
      else
        word += c;
    } else if (c == '"' || c == '\'') {
      quote = c, any = true;
    } else if (c == ' ') {
      if (!word.empty() || any) words.push_back(word);
      word.clear(), any = false;
    } else if (c == '<' || c == '>' || c == '|') {
      break;
    } else {
      word += c;
    }
  }
  return words;
}

// The fettle command in an example: from the word "fettle" to the end of its part of the pipe. Empty: the line has none.
std::vector<std::string> fettle_words(const std::string& line) {
  size_t at = line.find("fettle ");
  while (at != line.npos && at > 0 && line[at - 1] != ' ' && line[at - 1] != '(') at = line.find("fettle ", at + 1);
  if (at == line.npos) return {};
  std::string rest = line.substr(at + 7);
  if (at > 0 && line[at - 1] == '(' && rest.ends_with(')')) rest.pop_back();
  return shell_words(rest);
}

Error error_of(const std::vector<std::string>& words) {
  Invocation call;
  try {
    parse_command_line(words, call);
  } catch (const Error& e) {
    return e;
  }
  return Error(Exit::done, {}, "no error");
}

const Option& option(const Invocation& call, const std::string& name) {
  for (const Option& o : call.options.all())
    if (o.name() == name) return o;
  throw std::runtime_error("no option " + name);
}

TEST(Parse, KnowsCommandsOfOneAndTwoWords) {
  WorkFolder folder;
  Invocation one, two;
  parse_command_line({"list", "--json"}, one);
  EXPECT_STREQ(one.command->name, "list");
  EXPECT_TRUE(one.common.json);
  parse_command_line({"data", "check", "x.jsonl", "--max-tokens", "99"}, two);
  EXPECT_STREQ(two.command->name, "data check");
  EXPECT_EQ(option(two, "--max-tokens").value, "99");
  EXPECT_EQ(option(two, "DATA").value, "x.jsonl");
}

TEST(Parse, OptionsMayStandBetweenAndBeforeArguments) {
  WorkFolder folder;
  Invocation call;
  parse_command_line({"run", "m.gguf", "--raw", "--temperature", "0.5", "--max-tokens", "7", "once upon", "a time", "--seed=3"}, call);
  EXPECT_EQ(option(call, "PROMPT").value, "once upon,a time");
  EXPECT_EQ(option(call, "--temperature").value, "0.5");
  EXPECT_EQ(call.common.stage.seed, 3u);
  Invocation dashes;
  parse_command_line({"run", "m.gguf", "--raw", "--", "--json is a flag"}, dashes);
  EXPECT_EQ(option(dashes, "PROMPT").value, "--json is a flag");
  Invocation lists;
  parse_command_line({"run", "m.gguf", "--choice", "yes", "--choice", "[no, never]", "[a, b]", "c"}, lists);
  EXPECT_EQ(option(lists, "--choice").value, "yes,[no, never]");
  EXPECT_EQ(option(lists, "PROMPT").value, "[a, b],c");
}

TEST(Parse, OptionsOfEveryCommandMayStandBeforeIt) {
  WorkFolder folder;
  write_text("x.toml", "seed = 5\n");
  Invocation list, check, help;
  parse_command_line({"--threads", "1", "--json", "--config", "x.toml", "list"}, list);
  EXPECT_STREQ(list.command->name, "list");
  EXPECT_EQ(list.common.stage.threads, 1);
  EXPECT_EQ(list.common.stage.seed, 5u);
  parse_command_line({"--threads", "2", "data", "--seed", "7", "check", "x.jsonl"}, check);
  EXPECT_STREQ(check.command->name, "data check");
  EXPECT_EQ(check.common.stage.threads, 2);
  EXPECT_EQ(check.common.stage.seed, 7u);
  EXPECT_EQ(option(check, "DATA").value, "x.jsonl");
  const Error own = error_of({"--rank", "8", "tune", "m", "d"});
  EXPECT_EQ(own.code, Exit::usage);
  EXPECT_NE(own.hint.find("COMMAND --rank"), std::string::npos) << own.hint;
}

TEST(Parse, SlipsAreAnsweredWithTheNearestWord) {
  WorkFolder folder;
  EXPECT_NE(error_of({"quantise", "m"}).hint.find("quantize"), std::string::npos);
  EXPECT_NE(error_of({"data", "chekc", "m"}).hint.find("data check"), std::string::npos);
  EXPECT_NE(error_of({"tune", "m", "d", "--rnak", "4"}).hint.find("--rank"), std::string::npos);
  EXPECT_NE(error_of({"tune", "m", "d", "--method", "lroa"}).hint.find("lora"), std::string::npos);
  for (const auto& words : std::vector<std::vector<std::string>>{{"quantise", "m"},
                                                                 {"pull"},
                                                                 {"pull", "a", "b"},
                                                                 {"tune", "m", "d", "--rank", "many"},
                                                                 {"tune", "m", "d", "--rank", "4x"},
                                                                 {"tune", "m", "d", "--lr", "nan"},
                                                                 {"tune", "m", "d", "--lr"},
                                                                 {"fit", "d", "--time", "soon"},
                                                                 {"quantize", "m", "--size", "small"},
                                                                 {"tune", "m", "d", "--seed", "-1"},
                                                                 {"tune", "m", "d", "--pack", "4"}})
    EXPECT_EQ(error_of(words).code, Exit::usage) << words[0] << " " << words.back();
}

TEST(Parse, ReadsUnits) {
  WorkFolder folder;
  Invocation call;
  parse_command_line({"quantize", "m", "--size", "90MB", "--memory", "4GiB"}, call);
  EXPECT_EQ(call.common.stage.memory_bytes, uint64_t(4) << 30);
  TrainOptions train;
  parse_pack("4x512", train);
  EXPECT_EQ(train.pack_rows, 4);
  EXPECT_EQ(train.pack_tokens, 512);
  for (const char* bad : {"", "4", "x512", "4x", "4x512x", "0x512", "4 x 512"}) EXPECT_THROW(parse_pack(bad, train), Error) << bad;
  BenchPlan plan;
  parse_each("7+9", plan);
  EXPECT_EQ(plan.prompt, 7);
  EXPECT_EQ(plan.fresh, 9);
  for (const char* bad : {"", "7", "7+", "+9", "7+0", "7x9"}) EXPECT_THROW(parse_each(bad, plan), Error) << bad;
}

TEST(Table, EveryCommandIsDocumentedAndItsExamplesParse) {
  WorkFolder folder;
  std::set<std::string> names;
  for (const Command* c : commands()) {
    SCOPED_TRACE(c->name);
    EXPECT_TRUE(names.insert(c->name).second);
    EXPECT_GT(std::string(c->summary).size(), 8u);
    EXPECT_NE(std::string(c->summary).back(), '.');
    size_t examples = 0;
    for (const std::string& line : split(c->examples, '\n')) {
      std::vector<std::string> words = fettle_words(line);
      if (words.empty()) continue;
      Invocation call;
      EXPECT_NO_THROW(parse_command_line(words, call)) << line;
      ASSERT_NE(call.command, nullptr) << line;
      examples += call.command == c;
    }
    EXPECT_GE(examples, 1u);
    Invocation call;
    set_up(*c, call);
    std::set<std::string> options;
    for (const Option& o : call.options.all()) {
      EXPECT_GT(o.help.size(), 2u) << o.name();
      for (const std::string& n : split(o.names, ',')) EXPECT_TRUE(options.insert(n).second) << n;
    }
    std::string help = command_help(*c, call.options);
    EXPECT_LT(help.find("fettle"), help.find("usage:"));  // examples come first
    for (const std::string& line : split(help, '\n')) EXPECT_LT(line.size(), 170u) << line;
  }
}

TEST(Help, ListsEveryCommandOnceAndFoldsOptionsOfAll) {
  std::string text = main_help();
  for (const Command* c : commands()) EXPECT_NE(text.find(std::string("\n  ") + c->name + " "), std::string::npos) << c->name;
  EXPECT_NE(group_help("data").find("data split"), std::string::npos);
  EXPECT_EQ(group_help("list"), "");
  Invocation call;
  set_up(*commands()[0], call);
  EXPECT_NE(command_help(*commands()[0], call.options).find("options of every command"), std::string::npos);
}

TEST(ManPage, HasEveryCommandAndNoStrayRequests) {
  std::string page = man_page();
  EXPECT_TRUE(page.starts_with(".TH FETTLE 1"));
  for (const Command* c : commands()) EXPECT_NE(page.find(std::string(".SS \"fettle ") + c->name + "\""), std::string::npos) << c->name;
  const std::set<std::string> known{".TH", ".SH", ".SS", ".TP", ".PP", ".nf", ".fi"};
  for (const std::string& line : split(page, '\n')) {
    if (!line.empty() && line[0] == '.') {
      EXPECT_TRUE(known.count(line.substr(0, 3))) << line;
    }
  }
}

TEST(Config, CommandLineThenSectionThenTopThenDefault) {
  WorkFolder folder;
  write_text("fettle.toml", "threads = 3\nseed = 5\nrank = 9\n[tune]\nrank = 8\nlr = 0.5\n[data.check]\nmax-tokens = 77\n");
  Invocation call;
  parse_command_line({"tune", "m", "d", "--lr", "0.25"}, call);
  EXPECT_EQ(option(call, "--lr").value, "0.25");
  EXPECT_EQ(option(call, "--lr").source, "command line");
  EXPECT_EQ(option(call, "--rank").value, "8");
  EXPECT_EQ(option(call, "--rank").source, "fettle.toml");
  EXPECT_EQ(call.common.stage.threads, 3);
  EXPECT_EQ(call.common.stage.seed, 5u);
  EXPECT_EQ(option(call, "--alpha").source, "default");
  Invocation check;
  parse_command_line({"data", "check", "d"}, check);
  EXPECT_EQ(option(check, "--max-tokens").value, "77");
}

TEST(Config, AnotherFileAndWhatIsWrongInIt) {
  WorkFolder folder;
  write_text("fettle.toml", "threads = 3\n");
  write_text("other.toml", "threads = 4\n");
  Invocation call;
  parse_command_line({"list", "--config", "other.toml"}, call);
  EXPECT_EQ(call.common.stage.threads, 4);
  write_text("bad.toml", "[tune]\nrnak = 4\n");
  EXPECT_EQ(error_of({"tune", "m", "d", "--config", "bad.toml"}).code, Exit::usage);
  EXPECT_EQ(error_of({"tune", "m", "d", "--config", "absent.toml"}).code, Exit::usage);
  write_text("value.toml", "threads = \"many\"\n");
  EXPECT_EQ(error_of({"list", "--config", "value.toml"}).code, Exit::usage);
  for (const char* text : {"zork = 1\n", "[tnue]\nrank = 4\n"}) {
    write_text("slip.toml", text);
    EXPECT_EQ(error_of({"list", "--config", "slip.toml"}).code, Exit::usage) << text;
  }
  EXPECT_NE(error_of({"list", "--config", "slip.toml"}).hint.find("tune"), std::string::npos);
  EXPECT_NE(error_of({"list", "--config", "value.toml"}).text().find("value.toml"), std::string::npos);
  write_text("choice.toml", "[tune]\nmethod = \"magic\"\n");
  EXPECT_EQ(error_of({"tune", "m", "d", "--config", "choice.toml"}).code, Exit::usage);
}

TEST(Tables, AlignByCharactersAndCutLongLines) {
  Table table({"name", "size>"});
  table.row({"é", "1"});
  table.row({"bcd", "22"});
  EXPECT_EQ(table.text(), "name  size\né        1\nbcd     22\n");
  EXPECT_EQ(Table({"a"}).text(), "");
  EXPECT_EQ(one_line("a\nbcdef", 4), "a⏎bc…");
  EXPECT_EQ(one_line("abcd", 4), "abcd");
}

TEST(Shape, WritesAModelThatOpens) {
  ScratchFolder folder;
  fs::path path = folder.path() / "m.gguf";
  write_shape("smollm2-135m", "Q4_0", path);
  Gguf file(path);
  EXPECT_EQ(file.tensor("blk.29.ffn_down.weight").shape, (Shape{576, 1536}));
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 49152u);
  EXPECT_EQ(fs::file_size(path), file.file_bytes());
  EXPECT_THROW(write_shape("llama-9b", "Q4_0", path), Error);
  EXPECT_THROW(write_shape("smollm2-135m", "Q4_9", path), Error);
}

}  // namespace
}  // namespace fettle
