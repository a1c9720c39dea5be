// The engine on the tiny model: what it batches, shares, preempts and streams must be what a plain loop over the model computes.
#include "engine/engine.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/test_engine.h"

namespace fettle {
namespace {

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

// Keys and values in 8 bits: a token's are the same however it came into the cache, so answers are too.
TEST_F(EngineTest, ACacheInBytesAnswersTheSameHoweverItIsFilled) {
  EngineOptions bytes = options();
  bytes.kv = find_format("Q8_0");
  EngineOptions one = bytes, small = bytes;
  one.parallel = one.threads = 1;
  one.prefill_chunk = 5;
  one.prefix_cache = one.speculate = false;
  const int64_t token_bytes = 2 * 2 * 2 * 34;  // layers, kv heads, k and v; a head's 16 numbers fill half of a block
  small.kv_bytes = uint64_t(2 * 256 * token_bytes);
  std::vector<Request> requests;
  for (int i = 0; i < 8; i++) {
    std::vector<int> prompt = ids(i % 2 ? 100 : 40, uint64_t(i % 2));
    prompt.push_back(i);
    requests.push_back(request(prompt, 100));
  }
  const std::vector<Answer> expected = Engine(model_, one).generate_all(requests);
  for (const EngineOptions& o : {bytes, small}) {
    Engine engine(model_, o);
    for (int round = 0; round < 2; round++) {  // the second finds the first one's pages
      const std::vector<Answer> answers = engine.generate_all(requests);
      for (size_t i = 0; i < requests.size(); i++) {
        EXPECT_EQ(answers[i].ids, expected[i].ids) << i;
        EXPECT_EQ(answers[i].finish, Finish::length) << answers[i].error;
      }
    }
  }
  small.kv_bytes -= 1;
  small.context = 2 * 256 - 2 * KvCache::kPage;  // one byte more would do
  EXPECT_NE(message([&] { Engine engine(model_, small); }).find("use a smaller --context"), std::string::npos);
}

// What the option asks for is what is computed with: near to f32, and nearer the more bits there are.
TEST_F(EngineTest, TheCachesElementIsTheOneAskedFor) {
  const std::vector<int> prompt = ids(150, 3);
  const auto scores = [&](const char* element) {
    EngineOptions o = options();
    if (*element) o.kv = find_format(element);
    Engine engine(model_, o);
    Request r = request(prompt, 0);
    r.prompt_log_probs = true;
    std::vector<float> out;
    std::mutex mutex;
    std::condition_variable done;
    bool finished = false;
    engine.submit(r, [&](const Piece& piece) {
      std::lock_guard lock(mutex);
      if (piece.prompt) out.push_back(piece.log_prob);
      finished = finished || piece.finish != Finish::none;
      done.notify_one();
    });
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return finished; });
    return out;
  };
  const auto distance = [](const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += std::fabs(a[i] - b[i]);
    return sum / double(a.size());
  };
  const std::vector<float> exact = scores("F32");
  EXPECT_EQ(exact.size(), prompt.size() - 1);
  EXPECT_EQ(exact, scores(""));
  const double halves = distance(exact, scores("F16")), bytes = distance(exact, scores("Q8_0"));
  EXPECT_GT(halves, 0);
  EXPECT_GT(bytes, 3 * halves);
  EXPECT_LT(bytes, 0.02);
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

}  // namespace
}  // namespace fettle
