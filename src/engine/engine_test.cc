// The engine on the tiny model: what it batches, shares, preempts and streams must be what a plain loop over the model computes.
#include "engine/engine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "../../tests/tiny_model.h"
#include "engine/answer_text.h"

namespace fettle {
namespace {

class EngineTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / ("fettle-engine-" + std::to_string(getpid()) + ".gguf");
    TinyModel{}.write(path_);
    model_ = Model::open(path_);
  }
  void TearDown() override { fs::remove(path_); }

  // Exact precision and f32 keys: the same numbers however rows are batched.
  static EngineOptions options() {
    EngineOptions o;
    o.parallel = 8;
    o.context = 256;
    o.threads = 2;
    o.half_kv = false;
    o.precision = Precision::exact;
    return o;
  }
  static std::vector<int> ids(int n, uint64_t seed) {
    Random random(seed);
    std::vector<int> v;
    for (int i = 0; i < n; i++) v.push_back(int(random.below(256)));
    return v;
  }
  static Request request(std::vector<int> prompt, int max_tokens) {
    Request r;
    r.prompt = std::move(prompt);
    r.max_tokens = max_tokens;
    r.ignore_end = true;
    return r;
  }
  std::vector<float> logits_after(const std::vector<int>& tokens) {
    Pool pool(1);
    Arena arena;
    Batch batch;
    batch.add(0, 0, tokens);
    fettle::Run run{arena, pool, nullptr, nullptr, nullptr, Precision::exact};
    const Var* y = model_->logits(run, batch);
    return {y->data, y->data + y->cols};
  }
  static std::vector<double> log_softmax(const std::vector<float>& logits) {
    double sum = 0;
    for (float l : logits) sum += std::exp(double(l));
    std::vector<double> out;
    for (float l : logits) out.push_back(double(l) - std::log(sum));
    return out;
  }
  // Greedy decoding with the whole sequence computed anew at every step.
  std::vector<int> plain_greedy(std::vector<int> tokens, int n) {
    const size_t prompt = tokens.size();
    for (int i = 0; i < n; i++) {
      const std::vector<float> l = logits_after(tokens);
      tokens.push_back(int(std::max_element(l.begin(), l.end()) - l.begin()));
    }
    return {tokens.begin() + long(prompt), tokens.end()};
  }
  static std::string message(const std::function<void()>& f) {
    try {
      f();
    } catch (const Error& e) {
      return e.text() + " | " + e.hint;
    }
    return "no error";
  }

  fs::path path_;
  std::shared_ptr<Model> model_;
};

TEST_F(EngineTest, BatchedAnswersAreThoseOfOneByOneAndOfAPlainLoop) {
  std::vector<Request> requests;
  for (int i = 0; i < 20; i++) requests.push_back(request(ids(1 + i * 9 % 70, uint64_t(i)), 1 + i % 7 * 4));
  Engine engine(model_, options());
  size_t last = 0;
  const std::vector<Answer> batched = engine.generate_all(requests, [&](size_t done) { last = done; });
  EXPECT_EQ(last, 20u);
  EngineOptions one = options();
  one.parallel = 1;
  one.prefix_cache = false;
  one.prefill_chunk = 5;
  one.threads = 1;
  Engine single(model_, one);
  for (size_t i = 0; i < requests.size(); i++) {
    const Answer alone = single.generate(requests[i]);
    EXPECT_EQ(batched[i].ids, alone.ids) << i;
    EXPECT_EQ(batched[i].text, alone.text) << i;
    EXPECT_EQ(alone.ids, plain_greedy(requests[i].prompt, requests[i].max_tokens)) << i;
    EXPECT_NEAR(batched[i].log_prob, alone.log_prob, 1e-3 * std::fabs(alone.log_prob) + 1e-4);
    EXPECT_EQ(batched[i].finish, Finish::length);
    EXPECT_EQ(batched[i].prompt_tokens, int(requests[i].prompt.size()));
  }
}

TEST_F(EngineTest, PrefixCacheCountsAndChangesNothing) {
  Engine engine(model_, options());
  EngineOptions off = options();
  off.prefix_cache = false;
  Engine plain(model_, off);
  const std::vector<int> shared = ids(100, 1);
  std::vector<int> second = shared, third = shared;
  second.push_back(7);
  third.resize(90);
  third.push_back(9);
  const Answer first = engine.generate(request(shared, 8));
  EXPECT_EQ(first.cached_tokens, 0);
  // The very same prompt: all but its last token, whose logits are needed.
  const Answer again = engine.generate(request(shared, 8));
  EXPECT_EQ(again.cached_tokens, 99);
  EXPECT_EQ(again.ids, first.ids);
  // A conversation that goes on: prompt and answer so far are held (the last answered token was never fed).
  std::vector<int> longer = shared;
  longer.insert(longer.end(), first.ids.begin(), first.ids.end());
  longer.push_back(3);
  const Answer on = engine.generate(request(longer, 8));
  EXPECT_EQ(on.cached_tokens, 107);
  EXPECT_EQ(on.ids, plain.generate(request(longer, 8)).ids);
  const Answer branch = engine.generate(request(second, 8)), early = engine.generate(request(third, 8));
  EXPECT_GE(branch.cached_tokens, 99);
  EXPECT_EQ(early.cached_tokens, 90);
  EXPECT_EQ(branch.ids, plain.generate(request(second, 8)).ids);
  EXPECT_EQ(early.ids, plain.generate(request(third, 8)).ids);
  EXPECT_EQ(plain.stats().cached_tokens, 0u);
  EXPECT_EQ(engine.stats().cached_tokens, uint64_t(99 + 107 + 90 + branch.cached_tokens));
  EXPECT_EQ(engine.stats().requests, 5u);
}

TEST_F(EngineTest, RequestsThatBeginAlikeShareWhileTheyRun) {
  Engine engine(model_, options());
  std::vector<Request> requests;
  for (int i = 0; i < 8; i++) {
    std::vector<int> prompt = ids(130, 4);
    prompt.push_back(i);
    requests.push_back(request(prompt, 6));
  }
  const std::vector<Answer> answers = engine.generate_all(requests);
  int cached = 0;
  for (size_t i = 0; i < answers.size(); i++) {
    EXPECT_EQ(answers[i].ids, plain_greedy(requests[i].prompt, 6));
    cached += answers[i].cached_tokens;
  }
  EXPECT_EQ(cached, 7 * 130);
}

TEST_F(EngineTest, ASmallCachePreemptsAndAnswersTheSame) {
  EngineOptions small = options();
  // Two contexts' worth for eight sequences that all grow to nearly one context.
  const int64_t token_bytes = 2 * 2 * 16 * 2 * 4;  // layers, kv heads, head size, k and v, f32
  small.kv_bytes = uint64_t(2 * 256 * token_bytes);
  std::vector<Request> requests;
  for (int i = 0; i < 8; i++) requests.push_back(request(ids(40, uint64_t(i + 50)), 180));
  Engine roomy(model_, options());
  const std::vector<Answer> expected = roomy.generate_all(requests);
  for (bool prefix : {true, false}) {
    small.prefix_cache = prefix;
    Engine engine(model_, small);
    const std::vector<Answer> answers = engine.generate_all(requests);
    for (size_t i = 0; i < answers.size(); i++) {
      ASSERT_EQ(answers[i].finish, Finish::length) << answers[i].error;
      EXPECT_EQ(answers[i].ids, expected[i].ids) << i;
    }
    // Prompts of preempted sequences were computed again: that they were preempted is seen here.
    EXPECT_GT(engine.stats().prompt_tokens + engine.stats().cached_tokens, uint64_t(8 * 40));
  }
  small.kv_bytes = uint64_t(100 * token_bytes);
  EXPECT_NE(message([&] { Engine engine(model_, small); }).find("use a smaller --context"), std::string::npos);
}

TEST_F(EngineTest, MaxTokensAndTheContextEndAnAnswer) {
  EngineOptions small = options();
  small.context = 64;
  Engine engine(model_, small);
  for (int n : {1, 2, 5}) {
    const Answer a = engine.generate(request(ids(10, 2), n));
    EXPECT_EQ(a.ids.size(), size_t(n));
    EXPECT_EQ(a.finish, Finish::length);
  }
  const Answer full = engine.generate(request(ids(60, 2), 100));
  EXPECT_EQ(full.ids.size(), 4u);
  EXPECT_EQ(full.finish, Finish::length);
  EXPECT_EQ(engine.generate(request(ids(63, 2), 100)).ids.size(), 1u);
}

TEST_F(EngineTest, BadRequestsSayWhatIsWrong) {
  EngineOptions small = options();
  small.context = 64;
  Engine engine(model_, small);
  const auto refusal = [&](const std::function<void(Request&)>& change) {
    Request r = request(ids(10, 1), 5);
    change(r);
    return message([&] { engine.generate(r); });
  };
  const std::string longer = refusal([](Request& r) { r.prompt = ids(70, 1); });
  EXPECT_NE(longer.find("70 tokens"), std::string::npos) << longer;
  EXPECT_NE(longer.find("7 more than the context of 64"), std::string::npos) << longer;
  EXPECT_NE(refusal([](Request& r) { r.prompt.clear(); }).find("empty"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.prompt[3] = 259; }).find("token 259"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.prompt[3] = -1; }).find("token -1"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.max_tokens = 0; }).find("max_tokens"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.sampling.temperature = NAN; }).find("temperature"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.sampling.repeat_penalty = 0; }).find("repeat_penalty"), std::string::npos);
  EXPECT_NE(refusal([](Request& r) { r.sampling.logit_bias[1000] = 1; }).find("token 1000"), std::string::npos);
  EXPECT_EQ(refusal([](Request&) {}), "no error");
}

TEST_F(EngineTest, AModelOfBrokenNumbersEndsWithAnErrorAndIsNotRemembered) {
  std::string bytes = read_text(path_);
  const size_t at =
      size_t(model_->file->tensor("output_norm.weight").bytes.data() - model_->file->tensor("token_embd.weight").bytes.data());
  const size_t table = bytes.find(std::string(reinterpret_cast<const char*>(model_->file->tensor("token_embd.weight").bytes.data()), 256));
  ASSERT_NE(table, std::string::npos);
  const std::vector<float> huge(size_t(model_->config.d_model), 3e38f);  // finite, so that the file opens; what is computed is not
  bytes.replace(table + at, huge.size() * 4, reinterpret_cast<const char*>(huge.data()), huge.size() * 4);
  write_text(path_, bytes);
  Engine engine(Model::open(path_), options());
  for (int i = 0; i < 2; i++) {
    const Answer a = engine.generate(request(ids(30, 1), 5));
    EXPECT_EQ(a.finish, Finish::error);
    EXPECT_NE(a.error.find("not finite"), std::string::npos);
    EXPECT_EQ(a.cached_tokens, 0);
  }
}

// ---- streaming and cancelling

TEST_F(EngineTest, PiecesComeInOrderAndMakeTheAnswer) {
  Engine engine(model_, options());
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<Piece> pieces;
  bool done = false;
  Request r = request(ids(20, 3), 12);
  r.top_log_probs = 5;
  engine.submit(r, [&](const Piece& p) {
    std::lock_guard lock(mutex);
    EXPECT_FALSE(done) << "a piece after the last one";
    pieces.push_back(p);
    if (p.finish != Finish::none) done = true;
    wake.notify_all();
  });
  std::unique_lock lock(mutex);
  ASSERT_TRUE(wake.wait_for(lock, std::chrono::seconds(30), [&] { return done; }));
  std::vector<int> tokens = r.prompt;
  for (const Piece& p : pieces) {
    if (p.id < 0) continue;
    const std::vector<double> expected = log_softmax(logits_after(tokens));
    EXPECT_NEAR(p.log_prob, expected[size_t(p.id)], 1e-3);
    ASSERT_EQ(p.top.size(), 5u);
    std::vector<double> sorted = expected;
    std::sort(sorted.rbegin(), sorted.rend());
    for (size_t i = 0; i < 5; i++) {
      EXPECT_NEAR(p.top[i].log_prob, sorted[i], 1e-3);
      EXPECT_NEAR(p.top[i].log_prob, expected[size_t(p.top[i].id)], 1e-3);
    }
    tokens.push_back(p.id);
  }
  EXPECT_EQ(tokens.size(), 32u);
}

TEST_F(EngineTest, CancelEndsARunningAndAWaitingRequest) {
  EngineOptions one = options();
  one.parallel = 1;
  Engine engine(model_, one);
  std::mutex mutex;
  std::condition_variable wake;
  std::map<int, Finish> finished;
  bool started = false, cancelled = false;
  const auto callback = [&](int which) {
    return [&, which](const Piece& p) {
      std::unique_lock lock(mutex);
      if (p.finish != Finish::none) finished[which] = p.finish;
      started = true;
      wake.notify_all();
      wake.wait(lock, [&] { return cancelled; });  // however long this test's own thread sleeps, the request is not done before
    };
  };
  const uint64_t running = engine.submit(request(ids(5, 1), 240), callback(1));
  const uint64_t waiting = engine.submit(request(ids(5, 2), 240), callback(2));
  const auto wait = [&](auto condition) {
    std::unique_lock lock(mutex);
    return wake.wait_for(lock, std::chrono::seconds(30), condition);
  };
  EXPECT_TRUE(wait([&] { return started; }));
  engine.cancel(waiting);
  engine.cancel(running);
  engine.cancel(123456);  // nobody: nothing happens
  {
    std::lock_guard lock(mutex);
    cancelled = true;
  }
  wake.notify_all();
  ASSERT_TRUE(wait([&] { return finished.size() == 2; }));
  EXPECT_EQ(finished[1], Finish::cancelled);
  EXPECT_EQ(finished[2], Finish::cancelled);
  EXPECT_EQ(engine.generate(request(ids(5, 3), 3)).ids.size(), 3u);  // and it goes on
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
}

TEST_F(EngineTest, DestructionCancelsWhatRuns) {
  std::atomic<int> cancelled = 0;
  {
    Engine engine(model_, options());
    for (int i = 0; i < 12; i++)
      engine.submit(request(ids(5, uint64_t(i)), 250), [&](const Piece& p) { cancelled += p.finish == Finish::cancelled; });
  }
  EXPECT_EQ(cancelled, 12);
}

TEST_F(EngineTest, ManyThreadsMayAskAtOnce) {
  Engine engine(model_, options());
  std::vector<std::thread> threads;
  std::vector<std::vector<int>> got(6);
  for (int i = 0; i < 6; i++)
    threads.emplace_back([&, i] {
      for (int k = 0; k < 3; k++) got[size_t(i)] = engine.generate(request(ids(20 + i, uint64_t(i)), 10)).ids;
    });
  for (std::thread& t : threads) t.join();
  for (int i = 0; i < 6; i++) EXPECT_EQ(got[size_t(i)], plain_greedy(ids(20 + i, uint64_t(i)), 10));
}

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
