// bench as people call it, on a model of milliseconds: what its document holds, and a peer that dies.
#include <set>

#include "cli/limits.h"
#include "cli/test_program.h"
#include "simd/isa.h"

namespace fettle {
namespace {

TEST(Limits, ProductsOfCodesAreHeldAgainstTheArithmeticTheyUse) {
  PassCost cost;
  cost.block_products = 1e9;
  cost.integers = true;
  const MachineProbe machine{.read_gbps = 1, .f32_gflops = 10, .bf16_gflops = 400, .int8_gops = 100};
  for (Isa isa : available_isas()) {
    set_isa(isa);
    EXPECT_DOUBLE_EQ(cost.least_seconds(machine, 1, 0, 0, true), 2e9 / 100e9) << isa_name(isa);
    EXPECT_DOUBLE_EQ(cost.least_seconds(machine, 1, 0, 0, false), 2e9 / (isa == Isa::amx ? 400e9 : 100e9)) << isa_name(isa);
  }
  cost.integers = false;
  EXPECT_DOUBLE_EQ(cost.least_seconds(machine, 1, 0, 0, true), 2e9 / 400e9);
}

class Bench : public Program {
 protected:
  Outcome bench(const std::string& options) const {
    tiny();
    return shell("FETTLE_PYTHON=sh FETTLE_PEER=peer.sh $FETTLE bench tiny.gguf --prefill 8 --decode 4 " + options);
  }
  // A peer, as tools/peer_llama.py is one: what a turn of it does with its extra buffers, and without.
  void peer(const std::string& with, const std::string& without) const {
    file("peer.sh",
         "case \"$*\" in\n--version) echo '{\"name\": \"fake\", \"version\": \"7\"}';;\n*--no-extra-buffers*) echo without >> turns; " +
             without + ";;\n*) echo with >> turns; " + with + ";;\nesac\n");
  }
  static constexpr const char *kDie = "kill -SEGV $$", *kRates = "echo '{\"prefill\": 100, \"decode\": 50}'";
};

TEST_F(Bench, TheDocumentHasEveryWorkAndItsOperations) {
  const Outcome end = bench("--sequences 3 --each 4+2 --repeat 2 --json");
  ASSERT_EQ(end.code, 0) << end.err;
  const Json d = end.json();
  for (const char* key : {"model", "bytes", "threads", "isa", "load_ms", "first_token_ms"}) EXPECT_TRUE(d.contains(key)) << key;
  for (const char* key : {"f32_gflops", "bf16_gflops", "int8_gops", "read_gbps"}) EXPECT_GT(d["machine"][key], 0.0) << key;
  std::vector<std::string> works;
  for (const Json& row : d["rows"]) {
    works.push_back(row["work"]);
    EXPECT_EQ(row["runs"].size(), 2u);
    for (const char* key : {"tokens", "sequences", "context", "tokens_per_s", "limit", "share"}) EXPECT_GT(row[key], 0.0) << key;
  }
  EXPECT_EQ(works, (std::vector<std::string>{"prefill", "decode", "batch", "batch_whole"}));
  std::map<std::string, double> shares;
  std::map<std::string, int> outputs;
  for (const Json& op : d["ops"]) {
    EXPECT_GT(op["calls"], 0) << op;
    for (const char* key : {"seconds", "share", "gbps", "gbps_share"}) EXPECT_GT(op[key], 0.0) << op;
    EXPECT_EQ(op["gops"] > 0.0, op["arithmetic"] != "") << op;
    EXPECT_EQ(op["gops"] > 0.0, op["gops_share"] > 0.0) << op;
    shares[op["work"]] += op["share"].get<double>();
    if (op["op"] == "attn_output") outputs[op["work"]] = op["calls"];
  }
  EXPECT_EQ(outputs, (std::map<std::string, int>{{"prefill", 2}, {"decode", 8}, {"batch", 4}}));  // of two layers
  for (const auto& [work, share] : shares) EXPECT_LE(share, 1.0) << work;
}

TEST_F(Bench, PrintsWhereTheTimeGoes) {
  const Outcome end = bench("--repeat 1");
  ASSERT_EQ(end.code, 0) << end.err;
  const size_t ops = end.out.find("where the time goes");
  ASSERT_NE(ops, std::string::npos) << end.out;
  EXPECT_NE(end.out.find("ffn_gate+ffn_up", ops), std::string::npos) << end.out;
  EXPECT_LE(std::count(end.out.begin() + long(ops), end.out.end(), '\n'), 2 + 2 * 9 + 1) << end.out;
}

TEST_F(Bench, APeerThatDiesGoesOnWithoutItsExtraBuffers) {
  peer(kDie, kRates);
  const Outcome end = bench("--repeat 2 --against --json");
  ASSERT_EQ(end.code, 0) << end.err;
  EXPECT_EQ(read_text(at("turns")), "with\nwithout\nwithout\n");
  const Json d = end.json();
  EXPECT_EQ(d["peer"]["name"], "fake");
  EXPECT_EQ(d["peer"]["version"], "7");
  EXPECT_EQ(d["peer"]["ratio"].size(), 2u);
  EXPECT_NE(d["peer"]["note"].get<std::string>().find("signal 11"), std::string::npos) << d["peer"];
  EXPECT_NE(end.err.find("without its extra buffers"), std::string::npos) << end.err;
  EXPECT_NE(bench("--repeat 1 --against").out.find("without its extra buffers"), std::string::npos);
}

TEST_F(Bench, APeerThatLivesHasNoNoteAndOneThatAlwaysDiesIsAnError) {
  peer(kRates, kDie);
  const Outcome good = bench("--repeat 1 --against --json");
  ASSERT_EQ(good.code, 0) << good.err;
  EXPECT_FALSE(good.json()["peer"].contains("note"));
  EXPECT_EQ(read_text(at("turns")), "with\n");
  peer(kDie, kDie);
  const Outcome bad = bench("--repeat 1 --against");
  EXPECT_EQ(bad.code, 1);
  EXPECT_NE(bad.err.find("died by signal 11"), std::string::npos) << bad.err;
}

}  // namespace
}  // namespace fettle
