// Completion: what the program offers for a line, and that each shell's script hands it on.
#include <algorithm>

#include "cli/complete.h"
#include "cli/test_program.h"

namespace fettle {
namespace {

std::vector<std::string> words_of(const Offers& offers) {
  std::vector<std::string> words;
  for (const Offers::Offer& o : offers.list) words.push_back(o.word);
  return words;
}
bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A home of its own with two versions of one model and a tag.
class Completion : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* home = std::getenv("FETTLE_HOME")) before_ = home;
    ::setenv("FETTLE_HOME", home().c_str(), 1);
  }
  void TearDown() override { before_.empty() ? ::unsetenv("FETTLE_HOME") : ::setenv("FETTLE_HOME", before_.c_str(), 1); }
  fs::path home() const { return folder_.path() / "home"; }
  void add_models() const {
    const fs::path file = folder_.path() / "tiny.gguf";
    TinyModel{.layers = 1}.write(file);
    Registry registry;
    for (int i = 0; i < 2; i++) registry.add("tickets", file, "ready", Json::object());
    registry.tag("tickets:1", "support:live");
  }
  static std::vector<std::string> offered(const std::vector<std::string>& words) { return words_of(complete("zsh", words)); }

 private:
  ScratchFolder folder_;
  std::string before_;
};

TEST_F(Completion, Commands) {
  const std::vector<std::string> all = offered({""});
  for (const Command* c : commands()) EXPECT_TRUE(has(all, split(c->name, ' ')[0])) << c->name;
  EXPECT_EQ(std::count(all.begin(), all.end(), "data"), 1);
  EXPECT_EQ(offered({"qu"}), std::vector<std::string>{"quantize"});
  EXPECT_EQ(offered({"data", "s"}), (std::vector<std::string>{"show", "split"}));
  EXPECT_EQ(offered({"help", "quan"}), std::vector<std::string>{"quantize"});
  EXPECT_EQ(offered({"--threads", "2", "qu"}), std::vector<std::string>{"quantize"});
  EXPECT_TRUE(offered({"nonsense", ""}).empty());
}

TEST_F(Completion, OptionsThatAreNotGivenYet) {
  EXPECT_TRUE(has(offered({"tune", "--ra"}), "--rank"));
  EXPECT_FALSE(has(offered({"list", "--ra"}), "--rank"));
  EXPECT_FALSE(has(offered({"tune", "m", "--rank", "3", "--ra"}), "--rank"));
  EXPECT_TRUE(has(offered({"run", "m", "--choice", "a", "--cho"}), "--choice")) << "may be given several times";
  EXPECT_TRUE(has(offered({"data", "split", "--held"}), "--held-out"));
  EXPECT_FALSE(has(offered({"run", "m", "--", "--ra"}), "--raw"));
}

TEST_F(Completion, ValuesOfOptions) {
  EXPECT_EQ(offered({"tune", "--method", ""}), (std::vector<std::string>{"lora", "full", "scales"}));
  EXPECT_TRUE(has(offered({"quantize", "m", "--type", "Q4"}), "Q4_K_M"));
  EXPECT_TRUE(has(offered({"quantize", "m", "--type=Q4"}), "--type=Q4_K_M"));
  EXPECT_EQ(offered({"quantize", "--method", "g"}), std::vector<std::string>{"gptq"});
  EXPECT_EQ(offered({"eval", "m", "--task", "exact,c"}), std::vector<std::string>{"exact,choice"});
  EXPECT_FALSE(has(offered({"eval", "m", "--task", "kl,"}), "kl,kl"));
  EXPECT_TRUE(offered({"tune", "--rank", ""}).empty());
  EXPECT_EQ(offered({"completion", "z"}), std::vector<std::string>{"zsh"});
}

TEST_F(Completion, ModelsOfThisMachineAndThoseToFetch) {
  EXPECT_TRUE(has(offered({"chat", ""}), "smollm2-135m-instruct"));
  EXPECT_FALSE(fs::exists(home())) << "pressing TAB makes no home";
  add_models();
  for (const std::vector<std::string>& line : std::vector<std::vector<std::string>>{{"chat", ""},
                                                                                    {"show", ""},
                                                                                    {"compare", "a", "b", ""},
                                                                                    {"eval", "m", "--reference", ""},
                                                                                    {"fit", "d", "--base", ""},
                                                                                    {"diff", "a", ""}}) {
    const std::vector<std::string> words = offered(line);
    for (const char* word : {"tickets", "tickets:1", "tickets:2", "support:live", "smollm2-135m-instruct"})
      EXPECT_TRUE(has(words, word)) << line[0] << " " << word;
  }
  fs::resize_file(home() / "fettle.db", 10);
  EXPECT_TRUE(has(offered({"chat", ""}), "smollm2-135m-instruct")) << "a damaged registry is no hindrance";
}

TEST_F(Completion, TagsAndWordsThatNobodyKnows) {
  add_models();
  EXPECT_EQ(offered({"tag", "tickets", "su"}), std::vector<std::string>{"support:live"});
  EXPECT_TRUE(offered({"run", "tickets", ""}).empty()) << "a prompt is anybody's guess";
}

TEST_F(Completion, FilesWhereFilesAreWanted) {
  using Files = Offers::Files;
  const auto files = [](const std::vector<std::string>& words) { return complete("bash", words).files; };
  EXPECT_EQ(files({"fit", ""}), Files::any);
  EXPECT_EQ(files({"tune", "m", ""}), Files::any);
  EXPECT_EQ(files({"eval", "m", "--data", ""}), Files::any);
  EXPECT_EQ(files({"eval", "m", "--data=x"}), Files::any);
  EXPECT_EQ(files({"quantize", "m", "--out", ""}), Files::any);
  EXPECT_EQ(files({"inspect", ""}), Files::models);
  EXPECT_EQ(files({"tune", "m", "d", "--rank", ""}), Files::none);
  EXPECT_EQ(files({"eval", "m", "--"}), Files::none);
}

TEST_F(Completion, BashPartsWordsAtColonsAndEqualsSigns) {
  add_models();
  const auto lines = [](const std::vector<std::string>& pieces) { return offer_lines("bash", complete("bash", pieces)); };
  EXPECT_EQ(lines({"rm", "tickets", ":"}), "1\n2\n");
  EXPECT_EQ(lines({"rm", "tickets", ":", "2"}), "2\n");
  EXPECT_EQ(lines({"rm", "tickets:"}), "tickets:1\ntickets:2\n") << "where it is told not to";
  EXPECT_EQ(lines({"tune", "--method", "=", "f"}), "full\n");
  EXPECT_EQ(lines({"rm", "'tickets:2"}), "tickets:2\n");
  EXPECT_EQ(lines({"rm", "tickets", ":", "1", "tickets", ":", "2"}), "2\n");
}

// ---- the shells

bool has_shell(const char* shell) { return std::system((std::string("command -v ") + shell + " >/dev/null 2>&1").c_str()) == 0; }

// The scripts ask the program, which must be there.
class Shells : public Program {
 protected:
  void SetUp() override {
    Program::SetUp();
    if (IsSkipped()) return;
    run("pull " + tiny("mine.gguf").string());
    run("tag mine:1 support:live");
    file("rows with spaces.jsonl", "");
    fs::create_directories(at("folder"));
    for (const char* name : {"bash", "zsh", "fish"}) file(name, run(std::string("completion ") + name).out);
  }
  std::string says(const std::string& shell_line, const std::string& script) {
    file("script", "export PATH=" + program_.parent_path().string() + ":$PATH\n" + script);
    const Outcome end = shell("HOME=" + at("").string() + " " + shell_line + " script");
    EXPECT_EQ(end.code, 0) << end.err;
    return "\n" + end.out;
  }
  // COMPREPLY for these words of bash, the last one being typed.
  std::string bash(const std::string& words) {
    return says("bash", "source ./bash\nCOMP_WORDS=(" + words +
                            ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_fettle\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n");
  }
};

TEST_F(Shells, Bash) {
  EXPECT_NE(bash("fettle qu").find("\nquantize\n"), std::string::npos);
  EXPECT_NE(bash("fettle data ''").find("\nsplit\n"), std::string::npos);
  EXPECT_NE(bash("fettle data split --held").find("\n--held-out\n"), std::string::npos);
  EXPECT_NE(bash("fettle tune --method ''").find("\nlora\n"), std::string::npos);
  EXPECT_NE(bash("fettle chat mi").find("\nmine\nmine:1\n"), std::string::npos);
  EXPECT_EQ(bash("fettle chat mine : ''"), "\n1\n");
  EXPECT_EQ(bash("fettle chat support:"), "\nsupport:live\n");
  EXPECT_EQ(bash("fettle fit ro"), "\nrows with spaces.jsonl\n");
  EXPECT_EQ(bash("fettle eval mine --data = ro"), "\nrows with spaces.jsonl\n");
  EXPECT_NE(bash("fettle inspect mi").find("\nmine.gguf\n"), std::string::npos);
  EXPECT_NE(bash("fettle inspect f").find("\nfolder\n"), std::string::npos);
  EXPECT_EQ(bash("fettle tune m d --rank ''"), "\n\n");
  EXPECT_NE(bash("/nowhere/fettle qu").find("\nquantize\n"), std::string::npos) << "the program that wrote the script";
}

TEST_F(Shells, Fish) {
  if (!has_shell("fish")) GTEST_SKIP() << "no fish here";
  const auto offers = [&](const std::string& line) { return says("fish", "source fish\ncomplete -C '" + line + "'\n"); };
  EXPECT_NE(offers("fettle qu").find("\nquantize\t"), std::string::npos);
  EXPECT_NE(offers("fettle data ").find("\nsplit\t"), std::string::npos);
  EXPECT_NE(offers("fettle data split --held").find("\n--held-out\t"), std::string::npos);
  EXPECT_EQ(offers("fettle list --ra").find("--rank"), std::string::npos);
  EXPECT_NE(offers("fettle tune --method ").find("\nlora\n"), std::string::npos);
  EXPECT_NE(offers("fettle chat mine:").find("\nmine:1\t"), std::string::npos);
  EXPECT_NE(offers("fettle fit ro").find("\nrows with spaces.jsonl"), std::string::npos);
  EXPECT_NE(offers("fettle inspect mi").find("\nmine.gguf"), std::string::npos);
  EXPECT_NE(offers("fettle eval mine --data=ro").find("\n--data=rows with spaces.jsonl"), std::string::npos);
}

// Completion's own functions run in a terminal only: stand-ins print what they are given.
TEST_F(Shells, Zsh) {
  if (!has_shell("zsh")) GTEST_SKIP() << "no zsh here";
  const auto offers = [&](const std::string& words, const std::string& typed) {
    return says(
        "zsh -f",
        "compdef() { [[ $1 == _fettle ]] || exit 1 }\n_describe() { print -rl -- \"${(@P)4}\" }\n_files() { print -r -- \"files $*\" }\n"
        "compset() { : }\nsource ./zsh\nPREFIX=" +
            typed + "\nwords=(" + words + " $PREFIX)\nCURRENT=$#words\n_fettle\ntrue\n");
  };
  EXPECT_NE(offers("fettle", "qu").find("\nquantize:"), std::string::npos);
  EXPECT_NE(offers("fettle data split", "--held").find("\n--held-out:"), std::string::npos);
  EXPECT_NE(offers("fettle chat", "mine:").find("\nmine\\:1:base"), std::string::npos);
  EXPECT_NE(offers("fettle fit", "ro").find("\nfiles \n"), std::string::npos);
  EXPECT_NE(offers("fettle inspect", "mi").find("\nfiles -g *.gguf"), std::string::npos);
}

}  // namespace
}  // namespace fettle
