// Rules as people type them, and what the gate makes of measurements.
#include <gtest/gtest.h>

#include "pipeline/gate.h"
#include "pipeline/pipeline.h"

namespace fettle {
namespace {

TEST(Rules, AreRead) {
  struct Case {
    const char *text, *metric, *comparison;
    double value;
    const char* reference;
  };
  for (const Case& c : {Case{"size<90MB", "size", "<", 90e6, ""}, Case{" size <= 90MiB ", "size", "<=", 90.0 * (1 << 20), ""},
                        Case{"accuracy>=base_tuned-1pt", "accuracy", ">=", -0.01, "base_tuned"},
                        Case{"accuracy >= tuned - 0.5 pt", "accuracy", ">=", -0.005, "base_tuned"},
                        Case{"accuracy>=base+3%", "accuracy", ">=", 0.03, "base"}, Case{"accuracy>base", "accuracy", ">", 0, "base"},
                        Case{"accuracy>=90%", "accuracy", ">=", 0.9, ""}, Case{"accuracy>=0.9", "accuracy", ">=", 0.9, ""},
                        Case{"latency<5ms/token", "latency", "<", 0.005, ""}, Case{"latency<5ms", "latency", "<", 0.005, ""},
                        Case{"kl<0.02", "kl", "<", 0.02, ""}, Case{"kl<2e-2,", "kl", "<", 0.02, ""}}) {
    const auto rules = parse_rules(c.text);
    ASSERT_EQ(rules.size(), 1u) << c.text;
    EXPECT_EQ(rules[0].metric, c.metric);
    EXPECT_EQ(rules[0].comparison, c.comparison);
    EXPECT_NEAR(rules[0].value, c.value, 1e-12 * std::max(1.0, std::abs(c.value))) << c.text;
    EXPECT_EQ(rules[0].reference, c.reference);
  }
  const auto rules = parse_rules("size<90MB, accuracy>=base_tuned-1pt,latency<5ms/token,kl<0.02");
  ASSERT_EQ(rules.size(), 4u);
  EXPECT_EQ(rules[1].text, "accuracy>=base_tuned-1pt");
}

TEST(Rules, ErrorsShowThePlace) {
  struct Case {
    const char* text;
    int column;
    const char* word;
  };
  for (const Case& c :
       {Case{"", 1, "missing"}, Case{",size<1MB", 1, "missing"}, Case{"size<1MB,,kl<1", 10, "missing"},
        Case{"sice<1MB", 1, "did you mean size?"}, Case{"size<90XB", 6, "no size"}, Case{"size<0", 6, "no size"},
        Case{"size=90MB", 5, "expected"}, Case{"size", 5, "expected"}, Case{"size>90MB", 5, "below"}, Case{"accuracy<0.9", 9, "above"},
        Case{"accuracy>=base_tuned-1", 21, "no margin"}, Case{"accuracy>=base*2", 15, "no margin"}, Case{"accuracy>=101%", 11, "no share"},
        Case{"accuracy>=", 11, "no share"}, Case{"kl<0.02,latency<fast", 17, "no time"}, Case{"kl<nan", 4, "no positive"},
        Case{"kl<-1", 4, "no positive"}, Case{"kl<0.1x", 4, "no positive"}, Case{"size<<1MB", 5, "expected"}}) {
    try {
      parse_rules(c.text);
      ADD_FAILURE() << c.text;
    } catch (const Error& error) {
      const std::string all = std::string(error.what()) + " " + error.hint;
      EXPECT_EQ(error.code, Exit::usage);
      EXPECT_NE(all.find("column " + std::to_string(c.column) + ":"), std::string::npos) << c.text << "\n" << all;
      EXPECT_NE(all.find(c.word), std::string::npos) << c.text << "\n" << all;
    }
  }
}

// 1 right, 0 wrong; the first `lost` rows of 0, the rest as given.
Score score(int rows, int wrong_from, int wrong_to) {
  Score s;
  s.rows = rows;
  int right = 0;
  for (int i = 0; i < rows; i++) {
    const bool ok = i < wrong_from || i >= wrong_to;
    s.row_scores.push_back({i, "a", ok ? "a" : "b", ok, 0});
    right += ok;
  }
  s.score = wilson(right, rows);
  return s;
}

GateResult paired(int rows, std::pair<int, int> tuned_wrong, std::pair<int, int> compressed_wrong,
                  const char* rule = "accuracy>=base_tuned-1pt") {
  const Score tuned = score(rows, tuned_wrong.first, tuned_wrong.second),
              compressed = score(rows, compressed_wrong.first, compressed_wrong.second);
  return judge(parse_rules(rule)[0], {1, &tuned, &tuned, &compressed, {}, {}});
}

TEST(Gate, NothingChanged) {
  const GateResult r = paired(400, {0, 10}, {0, 10});
  EXPECT_TRUE(r.passed);
  EXPECT_EQ(r.verdict, "passed");
  EXPECT_NE(r.explanation.find("no answer changed"), std::string::npos);
  const GateResult few = paired(200, {0, 10}, {0, 10});  // nothing changed among 200: up to 1.9 in 100 may yet
  EXPECT_EQ(few.verdict, "not proven");
  EXPECT_NE(few.explanation.find("about 182 more held-out rows would"), std::string::npos) << few.explanation;
}

TEST(Gate, AClearLossIsMissed) {
  const GateResult r = paired(1000, {0, 50}, {0, 120});
  EXPECT_FALSE(r.passed);
  EXPECT_EQ(r.verdict, "missed");
  EXPECT_NEAR(r.value, -0.07, 1e-9);
  EXPECT_LT(r.high, -0.01);
}

TEST(Gate, AGoodPointWithFewRowsIsNotProven) {
  const GateResult few = paired(200, {0, 10}, {1, 12});  // one won, two lost
  EXPECT_FALSE(few.passed);
  EXPECT_EQ(few.verdict, "not proven");
  EXPECT_NE(few.explanation.find("more held-out rows"), std::string::npos) << few.explanation;
  EXPECT_NE(few.explanation.find("margin of 4 pt"), std::string::npos) << few.explanation;
  EXPECT_TRUE(paired(200, {0, 10}, {1, 12}, "accuracy>=base_tuned-4pt").passed) << "and the margin it names does pass";
  EXPECT_TRUE(paired(4000, {0, 10}, {1, 12}).passed) << "the same changes among more rows are proven harmless";
}

TEST(Gate, AGainPassesEvenAStrictRule) {
  EXPECT_TRUE(paired(500, {0, 100}, {0, 50}, "accuracy>base_tuned+2pt").passed);
  EXPECT_FALSE(paired(500, {0, 50}, {0, 50}, "accuracy>base_tuned").passed) << "equal is not above";
}

TEST(Gate, EqualNothingProvesNothing) {
  const GateResult r = paired(100, {0, 100}, {0, 100});
  EXPECT_FALSE(r.passed);
  EXPECT_NE(r.explanation.find("kl<0.02"), std::string::npos);
}

TEST(Gate, SharesSizesTimesAndKl) {
  const Score s = score(1000, 0, 50);
  const Measured m{89e6, &s, &s, &s, Interval{0.004, 0.0035, 0.0045}, Interval{0.018, 0.015, 0.021}};
  const auto verdict = [&](const char* rule) { return judge(parse_rules(rule)[0], m); };
  EXPECT_TRUE(verdict("size<90MB").passed);
  EXPECT_FALSE(verdict("size<89MB").passed);
  EXPECT_TRUE(verdict("size<=89MB").passed);
  EXPECT_TRUE(verdict("accuracy>=93%").passed);
  EXPECT_EQ(verdict("accuracy>=94.5%").verdict, "not proven");
  EXPECT_EQ(verdict("accuracy>=96%").verdict, "missed");
  EXPECT_TRUE(verdict("latency<5ms/token").passed);
  EXPECT_EQ(verdict("latency<4.2ms/token").verdict, "not proven");
  EXPECT_EQ(verdict("kl<0.02").verdict, "not proven");
  EXPECT_TRUE(verdict("kl<0.03").passed);
  EXPECT_FALSE(judge(parse_rules("kl<1")[0], {1, &s, &s, &s, {}, {}}).passed) << "what was not measured does not pass";
}

TEST(HardToProve, SaysWhatSoFewRowsCanShow) {
  const auto said = [](const char* rule, int64_t rows) { return hard_to_prove(parse_rules(rule)[0], rows); };
  EXPECT_NE(said("accuracy>=base_tuned-1pt", 204).find("204 held-out rows prove a margin of about 3.5 pt"), std::string::npos);
  EXPECT_NE(said("accuracy>=base_tuned-1pt", 204).find("1 pt take about 2003 rows"), std::string::npos);
  EXPECT_EQ(said("accuracy>=base_tuned-1pt", 2100), "");
  EXPECT_EQ(said("accuracy>=base_tuned-5pt", 204), "");
  EXPECT_NE(said("accuracy>=base_tuned", 10000), "");
  for (const char* other : {"accuracy>=80%", "accuracy>=base+20pt", "size<90MB", "kl<0.02"}) EXPECT_EQ(said(other, 10), "") << other;
}

}  // namespace
}  // namespace fettle
