// Dry runs of the program itself: what they refuse, what they tell, and that they write nothing; and what Ctrl-C says is left.
#include "cli/plan.h"

#include <algorithm>

#include "cli/test_program.h"

namespace fettle {
namespace {

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (!entry.path().filename().string().starts_with(".") && entry.path().filename() != "home") names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

class Plans : public Program {
 protected:
  void SetUp() override {
    Program::SetUp();
    if (IsSkipped()) return;
    tiny();
    std::string rows;
    for (int i = 0; i < 24; i++) rows += row("question " + std::to_string(i * 7919), i % 2 ? "yes" : "no");
    file("rows.jsonl", rows);
  }
};

TEST_F(Plans, EveryLongCommandTellsWhatItTakesAndWritesNothing) {
  const std::vector<std::string> before = names_in(at(""));
  for (const char* arguments :
       {"eval tiny.gguf --data rows.jsonl", "eval tiny.gguf --task choice,perplexity --data rows.jsonl --rows-out out.jsonl",
        "eval tiny.gguf --task kl --reference tiny.gguf --data rows.jsonl", "compare tiny.gguf tiny.gguf --data rows.jsonl",
        "bench tiny.gguf --prefill 32 --decode 8", "bench --shape llama-8b", "convert tiny.gguf --type F32",
        "quantize tiny.gguf --type Q8_0", "quantize tiny.gguf --kl 0.1 --measure rows.jsonl", "tune tiny.gguf rows.jsonl",
        "fit rows.jsonl --base tiny.gguf --target 'kl<1'"}) {
    const Outcome end = run(std::string(arguments) + " --dry-run --json");
    ASSERT_EQ(end.code, 0) << arguments << "\n" << end.err;
    const Json document = end.json();
    EXPECT_EQ(document["dry_run"], true) << arguments;
    for (const char* key : {"seconds", "memory_bytes", "energy_wh"})
      EXPECT_GT(document["plan"][key].get<double>(), 0) << arguments << " " << key;
    EXPECT_TRUE(document["plan"]["disk_bytes"].is_number()) << arguments;
    EXPECT_NE(run(std::string(arguments) + " -n").out.find("time"), std::string::npos) << arguments;
    EXPECT_EQ(names_in(at("")), before) << arguments;
  }
}

TEST_F(Plans, RefuseWhatTheRunWouldRefuse) {
  file("text.txt", "one two three");
  file("there.gguf", "x");
  const std::pair<const char*, int> table[] = {{"eval tiny.gguf --data text.txt", 2},
                                               {"eval tiny.gguf --data rows.jsonl --task kl", 2},
                                               {"eval tiny.gguf --data absent.jsonl", 3},
                                               {"eval absent.gguf --data rows.jsonl", 3},
                                               {"eval tiny.gguf --data rows.jsonl --rows-out no/folder", 2},
                                               {"eval tiny.gguf --data rows.jsonl --context 4 --parallel 0", 2},
                                               {"eval tiny.gguf --task perplexity --data text.txt", 3},
                                               {"compare tiny.gguf absent.gguf --data rows.jsonl", 3},
                                               {"bench --shape llama-8b --type Q4_9", 2},
                                               {"bench --shape llama-8b --sequences 1000000", 3},
                                               {"bench tiny.gguf --kv q4_0", 2},
                                               {"eval tiny.gguf --data rows.jsonl --kv q8", 2},
                                               {"convert tiny.gguf --type F33", 2},
                                               {"convert tiny.gguf --out there.gguf", 2},
                                               {"quantize tiny.gguf --type Q4_X", 2},
                                               {"quantize tiny.gguf --method gptq", 2},
                                               {"quantize tiny.gguf --tensor nothing=F16", 2},
                                               {"quantize tiny.gguf --kl 0.1 --measure absent.jsonl", 3},
                                               {"pull there.gguf", 3}};
  for (const auto& [arguments, code] : table) {
    const Outcome end = run(std::string(arguments) + " --dry-run");
    EXPECT_EQ(end.code, code) << arguments << "\n" << end.err;
  }
}

TEST_F(Plans, OfAQuantizedFileNamesItsSizeToTheByte) {
  for (const char* type : {"Q8_0", "F16", "Q4_K_M"}) {
    const std::string arguments = std::string("quantize tiny.gguf --out q.gguf --force --json --type ") + type;
    const Json planned = run(arguments + " -n").json()["plan"], made = run(arguments).json();
    EXPECT_EQ(planned["bytes"], made["bytes"]) << type;
    EXPECT_EQ(planned["types"], made["types"]) << type;
  }
}

TEST_F(Plans, CountTheCacheInTheNumbersThatItIsKeptIn) {
  const auto memory = [&](const std::string& kv) {
    const Outcome end = run("bench --shape llama-1b --sequences 8 --each 2048+64 -n --json" + kv);
    EXPECT_EQ(end.code, 0) << end.err;
    return end.json()["plan"]["memory_bytes"].get<double>();
  };
  const double f16 = memory(""), more = memory(" --kv f32") - f16, less = f16 - memory(" --kv q8_0");
  EXPECT_GT(more, 1e8);
  EXPECT_NEAR(less / more, (2 - 34 / 32.0) / 2, 1e-3);
  EXPECT_EQ(f16, memory(" --kv f16"));
}

TEST_F(Plans, OfAPullSayWhatComesFromWhere) {
  const Json file = run("pull tiny.gguf --dry-run --json").json();
  EXPECT_EQ(file["bytes"], fs::file_size(at("tiny.gguf")));
  EXPECT_TRUE(run("list --json").json()["models"].empty());
  const Json known = run("pull smollm2-135m-instruct -n --json").json();
  EXPECT_EQ(known["here"], false);
  EXPECT_GT(known["plan"]["disk_bytes"].get<double>(), 9e7);
  EXPECT_TRUE(known["plan"]["seconds"].is_null()) << "the network's business";
  EXPECT_EQ(run("pull smollm2-135m-instruct -n --offline").code, 3);
}

TEST(Needs, TimesAndFilesAddUpMemoryIsFreeAgain) {
  Needs all{1, 50, 10};
  all.then({2, 20, 5});
  EXPECT_EQ(all.seconds, 3);
  EXPECT_EQ(all.memory_bytes, 50);
  EXPECT_EQ(all.disk_bytes, 15);
}

}  // namespace
}  // namespace fettle
