// A draft model behind its door: what it guesses is what it would say without a cache, whatever came of its guesses before; and it notices
// when guessing does not pay. Passes of the engine's model are invented, in seconds: those of the tiny draft are nothing beside them.
#include "engine/model_drafter.h"

#include "engine/test_engine.h"

namespace fettle {
namespace {

class ModelDrafting : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    TinyModel{.context = 4096, .certainty = 6}.write(path_);
    model_ = Model::open(path_);
  }
  void TearDown() override {
    drafter_.reset();
    EngineTest::TearDown();
  }
  // second: of a pass; more: for each row above one, as a share.
  void start(int context, double second, double more) {
    for (int rows = 1; rows <= 16; rows++)
      for (int i = 0; i < 3; i++) target_.add(rows, second * (1 + more * (rows - 1)));
    const ModelDrafter::Limits limits{.sequences = 3,
                                      .tokens = 3 * (context + 2 * KvCache::kPage),
                                      .vocabulary = TinyModel::kVocabulary,
                                      .context = context,
                                      .chunk = 16};
    drafter_ = std::make_unique<ModelDrafter>(*model_, find_format("F32"), Precision::exact, limits, pool_, arena_, target_, counters_);
  }
  struct Sequence {
    uint64_t id;
    std::vector<int> tokens;
    int prompt;
  };
  Drafter::Ask ask(const Sequence& s) const { return {s.id, s.tokens, s.prompt, nullptr, 7, 7, {}, nullptr}; }
  int any_token() { return int(random_.below(256)); }

  PassTimes target_;
  Pool pool_{2};
  Arena arena_;
  GuessCounters counters_;
  std::unique_ptr<ModelDrafter> drafter_;
  Random random_{1};
};

TEST_F(ModelDrafting, GuessesWhatAPlainLoopSays) {
  start(200, 1000, 0);
  uint64_t last = 0;
  std::vector<Sequence> sequences(3);
  const auto restart = [&](Sequence& s) {
    if (s.id) drafter_->forget(s.id);
    s.tokens.resize(s.id ? random_.below(s.tokens.size()) : 0);  // what the cache holds of the old one may serve
    const std::vector<int> more = ids(1 + int(random_.below(60)), ++last);
    s.tokens.insert(s.tokens.end(), more.begin(), more.end());
    if (s.tokens.size() > 150) s.tokens.resize(150);
    s.id = last;
    s.prompt = int(s.tokens.size()) - 1;
  };
  for (Sequence& s : sequences) restart(s);
  int guessed = 0, longest = 0;
  for (int round = 0; round < 150; round++) {
    std::vector<Drafter::Ask> asks;
    std::vector<Sequence*> asked;
    for (Sequence& s : sequences) {
      if (random_.below(5) == 0) continue;
      asks.push_back(ask(s));
      asked.push_back(&s);
    }
    drafter_->guess(asks);
    for (size_t i = 0; i < asks.size(); i++) {
      Sequence& s = *asked[i];
      const std::vector<int>& guesses = asks[i].guesses;
      ASSERT_EQ(guesses, plain_greedy(s.tokens, int(guesses.size()))) << round;
      guessed += int(guesses.size());
      longest = std::max(longest, int(guesses.size()));
      EXPECT_EQ(asks[i].by, guesses.empty() ? nullptr : drafter_.get());
      if (!guesses.empty() && random_.below(5) > 0) {  // else the engine had no room for them
        const size_t right = random_.below(guesses.size() + 1);
        drafter_->learn(s.id, int(guesses.size()), int(right));
        s.tokens.insert(s.tokens.end(), guesses.begin(), guesses.begin() + long(right));
      }
      s.tokens.push_back(any_token());
      if (s.tokens.size() > 205 || random_.below(20) == 0) restart(s);
    }
  }
  EXPECT_GT(guessed, 300);
  EXPECT_EQ(longest, 7);
  EXPECT_EQ(counters_.guessed > counters_.right, true);
}

TEST_F(ModelDrafting, StopsWhereItIsWrongAndLooksAgain) {
  start(4096, 1, 0.1);
  Sequence s{1, ids(20, 1), 19};
  // Steps of `rounds` with guesses, all of which are right or wrong.
  const auto steps_with_guesses = [&](int rounds, bool right) {
    int steps = 0;
    for (int i = 0; i < rounds; i++) {
      Drafter::Ask one[] = {ask(s)};
      drafter_->guess(one);
      const std::vector<int>& guesses = one[0].guesses;
      if (!guesses.empty()) {
        steps++;
        drafter_->learn(s.id, int(guesses.size()), right ? int(guesses.size()) : 0);
        if (right) s.tokens.insert(s.tokens.end(), guesses.begin(), guesses.end());
      }
      s.tokens.push_back(any_token());
    }
    return steps;
  };
  EXPECT_GT(steps_with_guesses(10, true), 5);
  steps_with_guesses(50, false);
  const int looks = steps_with_guesses(200, false);
  EXPECT_GT(looks, 5);
  EXPECT_LT(looks, 40);
  steps_with_guesses(150, true);
  EXPECT_GT(steps_with_guesses(50, true), 30);
}

TEST_F(ModelDrafting, StopsWhereItsPassesTakeTooLong) {
  start(4096, 1e-9, 0.1);
  Sequence s{1, ids(20, 1), 10};
  int steps = 0;
  for (int i = 0; i < 200; i++) {
    Drafter::Ask one[] = {ask(s)};
    drafter_->guess(one);
    steps += !one[0].guesses.empty();
    if (one[0].by) drafter_->learn(s.id, int(one[0].guesses.size()), 0);
    s.tokens.push_back(any_token());
  }
  EXPECT_LE(steps, 1) << "that of finding out";
}

TEST_F(ModelDrafting, FollowsNoMoreThanItHasRoomFor) {
  start(200, 1000, 0);
  std::vector<Sequence> sequences;
  for (uint64_t i = 1; i <= 5; i++) sequences.push_back({i, ids(150, i), 140});
  std::vector<Drafter::Ask> asks;
  for (int round = 0; round < 20; round++) {
    asks.clear();
    for (Sequence& s : sequences) asks.push_back(ask(s));
    drafter_->guess(asks);
    for (size_t i = 0; i < asks.size(); i++) {
      EXPECT_EQ(asks[i].guesses, plain_greedy(sequences[i].tokens, int(asks[i].guesses.size())));
      sequences[i].tokens.push_back(any_token());
    }
  }
  for (const Sequence& s : sequences) drafter_->forget(s.id);
  Sequence fresh{9, ids(150, 9), 100};
  for (int round = 0; round < 20 && asks[0].guesses.empty(); round++) {
    asks.assign(1, ask(fresh));
    drafter_->guess(asks);
    fresh.tokens.push_back(any_token());
  }
  EXPECT_FALSE(asks[0].guesses.empty()) << "whoever was forgotten left its room";
}

}  // namespace
}  // namespace fettle
