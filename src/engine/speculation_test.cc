// Guessing ahead: answers are the same token by token, whatever is guessed; only the number of passes differs.
#include <atomic>
#include <future>
#include <thread>

#include "engine/lookup.h"
#include "engine/test_engine.h"

namespace fettle {
namespace {

TEST(PromptLookup, GuessesWhatFollowedTheSameTokens) {
  PromptLookup d;
  EXPECT_EQ(d.guess(std::vector{1, 2, 3, 4, 9, 8, 1, 2, 3, 4}, 8), (std::vector{9, 8, 1, 2}));
  EXPECT_EQ(d.guess(std::vector{1, 2, 3, 4, 9, 8, 1, 2, 3, 4}, 1), std::vector{9});
  EXPECT_EQ(d.guess(std::vector{7, 5, 6, 1, 5, 6, 2, 5, 6}, 1), std::vector{2}) << "the last time counts";
  EXPECT_EQ(d.guess(std::vector{5, 6, 1, 3, 6, 2, 5, 6}, 2), (std::vector{1, 3})) << "two tokens alike count more than one";
  for (const auto& nothing : {std::vector<int>{}, {1}, {1, 2}, {1, 2, 3, 4}, {4, 1, 4}}) EXPECT_TRUE(d.guess(nothing, 8).empty());
  EXPECT_TRUE(d.guess(std::vector{1, 2, 3, 1, 2}, 0).empty());
}

TEST(PromptLookup, GuessesMoreWhereItIsRightAndRestsWhereItIsWrong) {
  const std::vector<int> again{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2};
  PromptLookup d;
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
      with.draft = draft_;
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
  // Greedy, short, drawn, and drawn with penalties.
  static std::vector<Request> of_all_kinds() {
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
    return requests;
  }
  std::vector<Request> that_end();
  std::vector<Request> with_choices();

  std::shared_ptr<Model> draft_;
};

TEST_F(Speculation, ChangesNoAnswer) {
  const EngineStats stats = expect_same(of_all_kinds());
  EXPECT_GT(stats.right_guesses, 0u);
  EXPECT_GT(stats.guessed_tokens, stats.right_guesses) << "wrong guesses must be tried too";
}

// By text, by a token, by the context.
std::vector<Request> Speculation::that_end() {
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
  requests.push_back(request(ids(200, 3), 100));
  return requests;
}

TEST_F(Speculation, EndsWhereTheAnswerEnds) { EXPECT_GT(expect_same(that_end()).guessed_tokens, 0u); }

std::vector<Request> Speculation::with_choices() {
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 12; i++) {
    Request r = request(ids(15, i), 20);
    r.choices = std::make_shared<Choices>(*model_->tokenizer, std::vector<std::string>{"card arrival", "cash", "refund not shown", "car"});
    r.sampling.temperature = i % 2 ? 2.0f : 0.0f;
    r.sampling.seed = i;
    requests.push_back(r);
  }
  return requests;
}

TEST_F(Speculation, WhatAChoiceLeavesNoWayAroundIsNeverWrong) {
  const EngineStats stats = expect_same(with_choices());
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

// The engine's model takes as long as 24 layers take; its drafts are what two of them would say, nearly the same, and something else.
class Drafting : public Speculation {
 protected:
  void SetUp() override {
    Speculation::SetUp();
    const TinyModel two{.certainty = 6};
    TinyModel many = two, rough = two, other = two;
    many.idle_layers = 22;
    rough.format = "Q4_0";
    other.seed = 2;
    same_ = open(two);
    rough_ = open(rough);
    other_ = open(other);
    model_ = open(many);
  }
  std::shared_ptr<Model> open(const TinyModel& tiny) const {
    tiny.write(path_);
    return Model::open(path_);
  }
  std::shared_ptr<Model> same_, rough_, other_;
};

TEST_F(Drafting, ChangesNoAnswer) {
  for (const auto& draft : {same_, rough_, other_, model_}) {
    draft_ = draft;
    const EngineStats stats = expect_same(of_all_kinds());
    if (draft == same_) {
      EXPECT_GT(stats.right_draft_guesses, 0u);
    }
    if (draft == other_) {
      EXPECT_GT(stats.draft_guesses, stats.right_draft_guesses);
    }
  }
}

TEST_F(Drafting, EndsWhereTheAnswerEndsAndKeepsToChoices) {
  const std::vector<Request> ends = that_end(), choices = with_choices();
  for (const auto& draft : {same_, rough_, other_}) {
    draft_ = draft;
    EXPECT_GT(expect_same(ends).draft_guesses, 0u);
    expect_same(choices);
  }
}

TEST_F(Drafting, ADraftThatSaysTheSameIsAlwaysRight) {
  EngineOptions with = options(), without = options();
  without.speculate = false;
  with.draft = same_;
  Engine engine(model_, with), plain(model_, without);
  for (uint64_t i = 0; i < 8; i++) EXPECT_EQ(engine.generate(request(ids(30, i), 100)).ids, plain.generate(request(ids(30, i), 100)).ids);
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.right_draft_guesses, stats.draft_guesses);
  EXPECT_GT(stats.draft_guesses, 0u);
}

TEST_F(Drafting, FollowsAConversation) {
  EngineOptions with = options(), without = options();
  without.speculate = false;
  with.draft = rough_;
  with.prefill_chunk = 16;  // the draft reads in pieces, too
  Engine engine(model_, with), plain(model_, without);
  std::vector<int> tokens = ids(40, 4);
  for (int turn = 0; turn < 5; turn++) {
    const Answer a = engine.generate(request(tokens, 30));
    EXPECT_EQ(a.ids, plain.generate(request(tokens, 30)).ids) << turn;
    tokens.insert(tokens.end(), a.ids.begin(), a.ids.end());
    tokens.push_back(turn);
  }
}

TEST_F(Drafting, WhatItsContextDoesNotHoldIsNotGuessed) {
  draft_ = open({.context = 64, .certainty = 6});
  std::vector<Request> requests;
  for (int n : {20, 50, 63, 64, 65, 150}) requests.push_back(request(ids(n, 5), 90));
  EXPECT_GT(expect_same(requests).right_draft_guesses, 0u);
}

TEST_F(Drafting, SurvivesRequestsThatAreCancelled) {
  EngineOptions with = options(), without = options();
  without.speculate = false;
  with.draft = same_;
  with.parallel = 3;
  Engine plain(model_, without), engine(model_, with);
  std::vector<Request> kept;
  for (uint64_t i = 0; i < 12; i++) kept.push_back(request(ids(20, i), 60));
  const std::vector<Answer> expected = plain.generate_all(kept);
  std::atomic<int> ended{0};
  std::thread others([&] {
    for (uint64_t i = 0; i < 24; i++) {
      std::promise<void> some, over;
      int pieces = 0;
      const uint64_t id = engine.submit(request(ids(20, 100 + i), 200), [&](const Piece& piece) {
        if (++pieces == int(i) + 1) some.set_value();
        if (piece.finish == Finish::none) return;
        EXPECT_EQ(piece.finish, Finish::cancelled);
        ended++;
        over.set_value();
      });
      some.get_future().wait();
      engine.cancel(id);
      over.get_future().wait();
    }
  });
  const std::vector<Answer> answers = engine.generate_all(kept);
  others.join();
  EXPECT_EQ(ended, 24);
  for (size_t i = 0; i < kept.size(); i++) EXPECT_EQ(answers[i].ids, expected[i].ids) << i;
  EXPECT_GT(engine.stats().right_draft_guesses, 0u);
}

// Whoever is sent back to the queue is followed anew.
TEST_F(Drafting, SurvivesACacheThatIsTooSmall) {
  EngineOptions with = options(), without = options();
  without.speculate = false;
  with.draft = same_;
  with.parallel = 4;
  with.kv_bytes =
      uint64_t(3 * 256) * uint64_t(model_->kv_shape().token_bytes(find_format("F32")) + same_->kv_shape().token_bytes(find_format("F32")));
  Engine plain(model_, without), engine(model_, with);
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 8; i++) requests.push_back(request(ids(100, i), 120));
  const std::vector<Answer> expected = plain.generate_all(requests), answers = engine.generate_all(requests);
  for (size_t i = 0; i < requests.size(); i++) EXPECT_EQ(answers[i].ids, expected[i].ids) << i;
}

TEST_F(Drafting, ADraftThatCannotServeIsRefused) {
  EngineOptions with = options();
  with.draft = open({.other_ends = true});
  EXPECT_NE(message([&] { Engine(model_, with); }).find("has other tokens than"), std::string::npos);
  with.draft = same_;
  with.kv_bytes = uint64_t((256 + 128) * model_->kv_shape().token_bytes(find_format("F32")));
  EXPECT_NE(message([&] { Engine(model_, with); }).find("with the draft model's"), std::string::npos);
  with.draft = nullptr;
  Engine(model_, with);
}

}  // namespace
}  // namespace fettle
