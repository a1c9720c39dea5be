// What comes of an answer on the tiny model: its text, choices, scores and samples.
#include <condition_variable>
#include <mutex>
#include <set>

#include "engine/answer_text.h"
#include "engine/test_engine.h"

namespace fettle {
namespace {

// ---- text

TEST_F(EngineTest, StopStringsEndTheAnswerAcrossTokenBorders) {
  Engine engine(model_, options());
  // Every token is one byte, so any text of two bytes lies across a border.
  Request r = request(ids(20, 8), 40);
  for (int id = 0; id < 259; id++)
    if (id < 33 || id > 126) r.sampling.logit_bias[model_->tokenizer->encode(std::string(1, char(id & 255)))[0]] = -100;
  for (int id = 256; id < 259; id++) r.sampling.logit_bias[id] = -100;
  const std::string whole = engine.generate(r).text;
  ASSERT_GT(whole.size(), 20u);
  const std::string stop = whole.substr(10, 3);
  const size_t first = whole.find(stop);
  r.stop = {"\x01never", stop, ""};
  const Answer stopped = engine.generate(r);
  EXPECT_EQ(stopped.text, whole.substr(0, first));
  EXPECT_EQ(stopped.finish, Finish::stop);
  EXPECT_EQ(stopped.ids.size(), first + 3);
  // What could have become a stop string but did not is shown at the end.
  r.stop = {whole.substr(whole.size() - 2) + "\x01"};
  EXPECT_EQ(engine.generate(r).text, whole);
}

TEST_F(EngineTest, HalfACharacterIsHeldBack) {
  Engine engine(model_, options());
  const std::vector<int> bytes = model_->tokenizer->encode("\xE2\x82\xAC");  // the euro sign, a token a byte
  ASSERT_EQ(bytes.size(), 3u);
  Request r = request(ids(5, 1), 3);
  auto choices = std::make_shared<Choices>(*model_->tokenizer, std::vector<std::string>{"\xE2\x82\xAC"});
  r.choices = choices;
  std::vector<std::string> texts;
  std::mutex mutex;
  std::condition_variable wake;
  bool done = false;
  engine.submit(r, [&](const Piece& p) {
    std::lock_guard lock(mutex);
    texts.push_back(p.text);
    done = p.finish != Finish::none;
    wake.notify_all();
  });
  std::unique_lock lock(mutex);
  ASSERT_TRUE(wake.wait_for(lock, std::chrono::seconds(30), [&] { return done; }));
  ASSERT_GE(texts.size(), 3u);
  EXPECT_EQ(texts[0], "");
  EXPECT_EQ(texts[1], "");
  EXPECT_EQ(texts[2], "\xE2\x82\xAC");
  // Cut off inside a character: the broken bytes become one replacement character at the end.
  r.max_tokens = 2;
  EXPECT_EQ(engine.generate(r).text, "\xEF\xBF\xBD");
}

TEST(AnswerText, ShowsNothingOfAStopStringHoweverItIsCut) {
  const std::string text = "abcab\xC3\xA9xstopSTOPpy", shown = "abcab\xC3\xA9xstop";
  for (size_t step = 1; step <= text.size(); step++) {
    AnswerText answer({"STOP", "stopped"});
    std::string got;
    for (size_t at = 0; at < text.size() && !answer.stopped(); at += step) got += answer.push(text.substr(at, step));
    got += answer.finish();
    EXPECT_EQ(got, shown) << step;
    EXPECT_TRUE(answer.stopped());
  }
}

// ---- choices

TEST_F(EngineTest, ChoicesWalkTheirTrie) {
  const Tokenizer& t = *model_->tokenizer;
  const Choices choices(t, {"card", "cash", "car", "refund", "card"});
  const auto text = [&](std::vector<int> allowed) {
    std::string s;
    std::sort(allowed.begin(), allowed.end());
    for (int id : allowed) s += id == TinyModel::kEnd ? "$" : std::string(t.piece(id));
    return s;
  };
  const auto sorted = [&](const std::string& s) {
    std::vector<int> v;
    for (char c : s) v.push_back(c == '$' ? TinyModel::kEnd : t.encode(std::string(1, c))[0]);
    return text(v);
  };
  EXPECT_EQ(text(choices.allowed({})), sorted("cr"));
  EXPECT_EQ(text(choices.allowed(t.encode("ca"))), sorted("rs"));
  EXPECT_EQ(text(choices.allowed(t.encode("car"))), sorted("d$"));
  EXPECT_EQ(text(choices.allowed(t.encode("card"))), sorted("$"));
  EXPECT_EQ(text(choices.allowed(t.encode("cat"))), "");
  EXPECT_EQ(text(choices.allowed(t.encode("cards"))), "");
  EXPECT_NE(message([&] { Choices(t, {}); }).find("empty"), std::string::npos);
  EXPECT_NE(message([&] { Choices(t, {"a", ""}); }).find("empty"), std::string::npos);
}

TEST_F(EngineTest, ConstrainedAnswersAreTheGreedyWalkAndSampledOnesStayInside) {
  Engine engine(model_, options());
  const std::vector<std::string> answers{"card", "cash", "car", "refund", "return", "other"};
  auto choices = std::make_shared<Choices>(*model_->tokenizer, answers);
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 12; seed++) {
    Request r = request(ids(15, seed), 20);
    r.choices = choices;
    const Answer greedy = engine.generate(r);
    std::vector<int> tokens = r.prompt, walk;
    while (true) {
      const std::vector<int> allowed = choices->allowed(walk);
      if (allowed.empty()) break;
      const std::vector<float> l = logits_after(tokens);
      const int best = *std::max_element(allowed.begin(), allowed.end(), [&](int a, int b) { return l[size_t(a)] < l[size_t(b)]; });
      walk.push_back(best);
      tokens.push_back(best);
    }
    EXPECT_EQ(greedy.ids, walk);
    EXPECT_EQ(greedy.finish, Finish::stop);
    EXPECT_TRUE(std::find(answers.begin(), answers.end(), greedy.text) != answers.end()) << greedy.text;
    r.sampling.temperature = 3;
    r.sampling.seed = seed;
    const Answer sampled = engine.generate(r);
    EXPECT_TRUE(std::find(answers.begin(), answers.end(), sampled.text) != answers.end()) << sampled.text;
    seen.insert(sampled.text);
  }
  EXPECT_GT(seen.size(), 2u);
}

// ---- scores

TEST_F(EngineTest, PromptLogProbsAreThoseOfThePlainModel) {
  Engine engine(model_, options());
  Request r = request(ids(100, 6), 0);  // longer than the rows that are scored in one step
  r.prompt_log_probs = true;
  r.top_log_probs = 2;
  engine.generate(request(r.prompt, 1));  // the prefix cache holds it, and must not be read
  std::vector<Piece> pieces;
  std::mutex mutex;
  std::condition_variable wake;
  bool done = false;
  const auto collect = [&](const Piece& p) {
    std::lock_guard lock(mutex);
    pieces.push_back(p);
    done = p.finish != Finish::none;
    wake.notify_all();
  };
  for (int max_tokens : {0, 3}) {
    r.max_tokens = max_tokens;
    pieces.clear();
    done = false;
    engine.submit(r, collect);
    std::unique_lock lock(mutex);
    ASSERT_TRUE(wake.wait_for(lock, std::chrono::seconds(30), [&] { return done; }));
    size_t scored = 0;
    int generated = 0;
    for (const Piece& p : pieces) {
      generated += !p.prompt && p.id >= 0;
      if (!p.prompt) continue;
      scored++;
      ASSERT_LT(scored, r.prompt.size());
      EXPECT_EQ(p.id, r.prompt[scored]);
      const auto expected = log_softmax(logits_after({r.prompt.begin(), r.prompt.begin() + long(scored)}));
      EXPECT_NEAR(p.log_prob, expected[size_t(p.id)], 1e-3);
      ASSERT_EQ(p.top.size(), 2u);
      EXPECT_NEAR(p.top[0].log_prob, *std::max_element(expected.begin(), expected.end()), 1e-3);
    }
    EXPECT_EQ(scored, 99u);
    EXPECT_EQ(generated, max_tokens);
  }
}

// ---- sampling

TEST_F(EngineTest, SeedsRepeatAndDiffer) {
  Engine engine(model_, options());
  std::vector<Request> requests;
  for (uint64_t seed : {1, 1, 2, 3, 4}) {
    Request r = request(ids(30, 9), 20);
    r.sampling.temperature = 1;
    r.sampling.seed = seed;
    requests.push_back(r);
  }
  const std::vector<Answer> batched = engine.generate_all(requests);
  EXPECT_EQ(batched[0].ids, batched[1].ids);
  std::set<std::vector<int>> different;
  for (size_t i = 0; i < requests.size(); i++) {
    different.insert(batched[i].ids);
    EXPECT_EQ(engine.generate(requests[i]).ids, batched[i].ids);  // whatever ran beside it
  }
  EXPECT_EQ(different.size(), 4u);
}

}  // namespace
}  // namespace fettle
