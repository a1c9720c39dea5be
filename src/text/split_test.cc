// The split: sides hang on the question and the seed, never on order, company or spelling.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "base/base.h"
#include "text/dataset.h"

namespace fettle {
namespace {

Example ask(const std::string& question, const std::string& answer = "x") {
  return {{{"user", question}, {"assistant", answer}}, "a.jsonl", 1};
}

Dataset numbered(int n) {
  Dataset data;
  for (int i = 0; i < n; i++) data.examples.push_back(ask("question number " + std::to_string(i)));
  return data;
}

// question -> whether it is held out
std::map<std::string, bool> sides(const Dataset& data, double fraction, uint64_t seed) {
  Split split = split_dataset(data, fraction, seed);
  EXPECT_EQ(split.train.size() + split.held_out.size(), data.examples.size());
  EXPECT_TRUE(std::is_sorted(split.train.begin(), split.train.end()));
  std::map<std::string, bool> result;
  for (size_t i : split.train) result[data.examples[i].messages[0].content] = false;
  for (size_t i : split.held_out) result[data.examples[i].messages[0].content] = true;
  return result;
}

TEST(Split, OrderAndCompanyDoNotMatter) {
  Dataset data = numbered(500), turned = data, longer = numbered(700);
  std::reverse(turned.examples.begin(), turned.examples.end());
  auto expected = sides(data, 0.2, 3);
  EXPECT_EQ(sides(turned, 0.2, 3), expected);
  auto more = sides(longer, 0.2, 3);
  for (auto& [question, held_out] : expected) EXPECT_EQ(more[question], held_out);
  EXPECT_NE(sides(data, 0.2, 4), expected);
}

TEST(Split, SidesAreTheSameOnEveryMachine) {
  Split split = split_dataset(numbered(30), 0.2, 0);
  EXPECT_EQ(split.held_out, (std::vector<size_t>{1, 10, 21, 27, 29}));  // as xxHash's definition has it
}

TEST(Split, FractionIsMetOnAverage) {
  for (double fraction : {0.05, 0.1, 0.5, 0.9}) {
    double held_out = double(split_dataset(numbered(20000), fraction, 1).held_out.size());
    EXPECT_NEAR(held_out / 20000, fraction, 0.015);  // four standard deviations
  }
}

TEST(Split, DuplicatesOfAQuestionFallOnOneSide) {
  Dataset data;
  for (int i = 0; i < 200; i++) {
    std::string n = std::to_string(i);
    data.examples.push_back(ask("Where is order " + n + "?", "a"));
    data.examples.push_back(ask("  where IS   order " + n, "b"));
    data.examples.push_back({{{"system", "be kind"}, {"user", "Where is order " + n + "?!"}, {"assistant", "a"}}, "b.jsonl", 1});
  }
  Split split = split_dataset(data, 0.5, 0);
  std::vector<int> held_out(200);
  for (size_t i : split.held_out) held_out[i / 3]++;
  EXPECT_EQ(std::count(held_out.begin(), held_out.end(), 0) + std::count(held_out.begin(), held_out.end(), 3), 200);
  EXPECT_GT(std::count(held_out.begin(), held_out.end(), 3), 60);
}

TEST(Split, BothSidesHoldSomethingWhenTheyCan) {
  for (uint64_t seed = 0; seed < 20; seed++)
    for (double fraction : {0.001, 0.5, 0.999}) {
      Split split = split_dataset(numbered(2), fraction, seed);
      EXPECT_EQ(split.train.size(), 1u);
      EXPECT_EQ(split.held_out.size(), 1u);
    }
  Dataset same;
  same.examples = {ask("one"), ask("one"), ask("One.")};
  Split split = split_dataset(same, 0.5, 0);
  EXPECT_TRUE(split.train.empty() || split.held_out.empty());
  EXPECT_EQ(split_dataset(Dataset{}, 0.5, 0).train.size(), 0u);
}

TEST(Split, RefusesSharesThatAreNone) {
  for (double fraction : {0.0, 1.0, -1.0, 2.0, double(NAN)}) EXPECT_THROW(split_dataset(numbered(3), fraction, 0), Error);
}

}  // namespace
}  // namespace fettle
