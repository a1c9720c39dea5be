// Guessing ahead: answers are the same token by token, whatever is guessed; only the number of passes differs.
#include "engine/drafter.h"
#include "engine/test_engine.h"

namespace fettle {
namespace {

TEST(Drafter, GuessesWhatFollowedTheSameTokens) {
  Drafter d;
  EXPECT_EQ(d.guess(std::vector{1, 2, 3, 4, 9, 8, 1, 2, 3, 4}, 8), (std::vector{9, 8, 1, 2}));
  EXPECT_EQ(d.guess(std::vector{1, 2, 3, 4, 9, 8, 1, 2, 3, 4}, 1), std::vector{9});
  EXPECT_EQ(d.guess(std::vector{7, 5, 6, 1, 5, 6, 2, 5, 6}, 1), std::vector{2}) << "the last time counts";
  EXPECT_EQ(d.guess(std::vector{5, 6, 1, 3, 6, 2, 5, 6}, 2), (std::vector{1, 3})) << "two tokens alike count more than one";
  for (const auto& nothing : {std::vector<int>{}, {1}, {1, 2}, {1, 2, 3, 4}, {4, 1, 4}}) EXPECT_TRUE(d.guess(nothing, 8).empty());
  EXPECT_TRUE(d.guess(std::vector{1, 2, 3, 1, 2}, 0).empty());
}

TEST(Drafter, GuessesMoreWhereItIsRightAndRestsWhereItIsWrong) {
  const std::vector<int> again{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2};
  Drafter d;
  EXPECT_EQ(d.guess(again, 99).size(), 4u);
  d.learn(4, 4);
  EXPECT_EQ(d.guess(again, 99).size(), 8u);
  d.learn(8, 3);
  EXPECT_EQ(d.guess(again, 99).size(), 8u);
  for (int n : {8, 4, 2, 1}) {
    EXPECT_EQ(d.guess(again, 99).size(), size_t(n));
    d.learn(n, 0);
  }
  int rested = 0;
  while (d.guess(again, 99).empty()) rested++;
  EXPECT_EQ(rested, 16);
}

class Speculation : public EngineTest {
 protected:
  static std::vector<int> repeating(uint64_t seed) {
    std::vector<int> all;
    for (int i = 0; i < 5; i++)
      for (int id : ids(12, seed)) all.push_back(id);
    return all;
  }
  // The same requests with and without guesses, one after the other and together.
  EngineStats expect_same(const std::vector<Request>& requests) {
    EngineStats stats;
    EngineOptions without = options();
    without.speculate = false;
    Engine plain(model_, without);
    const std::vector<Answer> expected = plain.generate_all(requests);
    EXPECT_EQ(plain.stats().guessed_tokens, 0u);
    for (int parallel : {1, 3}) {
      EngineOptions with = options();
      with.parallel = parallel;
      Engine engine(model_, with);
      const std::vector<Answer> answers = engine.generate_all(requests);
      for (size_t i = 0; i < answers.size(); i++) {
        EXPECT_EQ(answers[i].ids, expected[i].ids) << i;
        EXPECT_EQ(answers[i].text, expected[i].text) << i;
        EXPECT_EQ(answers[i].finish, expected[i].finish) << i;
        EXPECT_NEAR(answers[i].log_prob, expected[i].log_prob, 1e-3 * std::fabs(expected[i].log_prob) + 1e-4) << i;
      }
      EXPECT_EQ(engine.stats().generated_tokens, plain.stats().generated_tokens);
      stats = engine.stats();
    }
    return stats;
  }
};

TEST_F(Speculation, ChangesNoAnswer) {
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 6; i++) {
    requests.push_back(request(repeating(i), 60));
    requests.push_back(request(repeating(i), int(i) + 1));
    Request r = request(repeating(i), 60);
    r.sampling.temperature = 0.4f + float(i);
    r.sampling.top_k = 5;
    r.sampling.seed = i;
    requests.push_back(r);
    r.sampling.repeat_penalty = 1.1f;
    r.sampling.frequency_penalty = 0.2f;
    r.top_log_probs = 2;
    requests.push_back(r);
  }
  const EngineStats stats = expect_same(requests);
  EXPECT_GT(stats.right_guesses, 0u);
  EXPECT_GT(stats.guessed_tokens, stats.right_guesses) << "wrong guesses must be tried too";
}

TEST_F(Speculation, EndsWhereTheAnswerEnds) {
  EngineOptions without = options();
  without.speculate = false;
  Engine plain(model_, without);
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 6; i++) {
    const Answer whole = plain.generate(request(repeating(i), 50));
    for (size_t at : {size_t(9), size_t(21), size_t(40)}) {
      Request r = request(repeating(i), 50);
      r.stop = {whole.text.substr(std::min(at, whole.text.size() - 1), 2)};
      requests.push_back(r);
      r.stop = {};
      r.sampling.logit_bias[TinyModel::kEnd] = 4;
      r.ignore_end = false;
      requests.push_back(r);
    }
  }
  Request nearly_full = request(ids(200, 3), 100);  // the context ends it
  requests.push_back(nearly_full);
  EXPECT_GT(expect_same(requests).guessed_tokens, 0u);
}

TEST_F(Speculation, WhatAChoiceLeavesNoWayAroundIsNeverWrong) {
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 12; i++) {
    Request r = request(ids(15, i), 20);
    r.choices = std::make_shared<Choices>(*model_->tokenizer, std::vector<std::string>{"card arrival", "cash", "refund not shown", "car"});
    r.sampling.temperature = i % 2 ? 2.0f : 0.0f;
    r.sampling.seed = i;
    requests.push_back(r);
  }
  const EngineStats stats = expect_same(requests);
  EXPECT_GT(stats.right_guesses, 0u);
  EXPECT_EQ(stats.right_guesses, stats.guessed_tokens);
}

// What guesses leave in the cache must not reach who goes on from there.
TEST_F(Speculation, AConversationGoesOnAsIfNothingHadBeenGuessed) {
  Engine engine(model_, options());
  EngineOptions none = options();
  none.speculate = none.prefix_cache = false;
  Engine plain(model_, none);
  std::vector<int> tokens = repeating(4);
  for (int turn = 0; turn < 4; turn++) {
    const Answer a = engine.generate(request(tokens, 20));
    EXPECT_EQ(a.ids, plain.generate(request(tokens, 20)).ids) << turn;
    if (turn > 0) {
      EXPECT_GT(a.cached_tokens, 60) << turn;
    }
    tokens.insert(tokens.end(), a.ids.begin(), a.ids.end());
    tokens.push_back(turn);
  }
}

}  // namespace
}  // namespace fettle
