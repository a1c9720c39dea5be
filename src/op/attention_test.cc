// Attention against its definition on every instruction set that this machine runs, and the cache that it reads.
#include "op/test_operands.h"

namespace fettle {
namespace {

// Attention of one sequence in doubles, as the definition says it.
std::vector<double> plain_attention(const float* q, const float* k, const float* v, int n, const Shapes& s) {
  std::vector<double> out(size_t(n) * s.heads * s.d);
  for (int t = 0; t < n; t++)
    for (int h = 0; h < s.heads; h++) {
      const int kv = h / (s.heads / s.kv_heads);
      std::vector<double> p(size_t(t) + 1, 0.0);
      double sum = 0;
      for (int u = s.window ? std::max(0, t + 1 - s.window) : 0; u <= t; u++) {
        double dot = 0;
        for (int i = 0; i < s.d; i++) dot += double(q[(t * s.heads + h) * s.d + i]) * k[(u * s.kv_heads + kv) * s.d + i];
        sum += p[size_t(u)] = std::exp(dot / std::sqrt(double(s.d)));
      }
      for (int u = 0; u <= t; u++)
        for (int i = 0; i < s.d; i++) out[size_t((t * s.heads + h) * s.d + i)] += p[size_t(u)] / sum * v[(u * s.kv_heads + kv) * s.d + i];
    }
  return out;
}

TEST_P(EachIsa, AttentionAgreesWithItsDefinitionInCacheAndOut) {
  for (int window : {0, 20}) {
    const Shapes s{6, 2, 32, window};
    const int n = 150;
    std::vector<float> q = randoms(size_t(n) * s.heads * s.d, 1), k = randoms(size_t(n) * s.kv_heads * s.d, 2),
                       v = randoms(size_t(n) * s.kv_heads * s.d, 3);
    const std::vector<double> truth = plain_attention(q.data(), k.data(), v.data(), n, s);
    const Attention shape{1, s.heads, s.kv_heads, s.d, window, 1 / std::sqrt(float(s.d))};
    std::vector<float> whole;
    for (const char* element : {"F32", "F16", ""}) {
      std::unique_ptr<KvCache> cache;
      if (*element) cache = std::make_unique<KvCache>(KvCache::Shape{2, s.kv_heads, s.d}, find_format(element), 3, 512);
      const std::vector<int> cuts = *element ? std::vector<int>{0, 7, 8, 90, n} : std::vector<int>{0, n};
      ASSERT_TRUE(!cache || cache->reserve(1, n));
      std::vector<float> got(size_t(n) * s.heads * s.d);
      for (size_t c = 0; c + 1 < cuts.size(); c++) {
        const int first = cuts[c], count = cuts[c + 1] - first;
        fettle::Run run{arena, pool, cache.get()};
        Batch batch;
        batch.add(cache ? 1 : 0, first, std::vector<int>(size_t(count), 0));
        Var vq{q.data() + first * s.heads * s.d, nullptr, count, s.heads * s.d},
            vk{k.data() + first * s.kv_heads * s.d, nullptr, count, s.kv_heads * s.d},
            vv{v.data() + first * s.kv_heads * s.d, nullptr, count, s.kv_heads * s.d};
        Var* out = attention(run, &vq, &vk, &vv, shape, batch);
        std::copy(out->data, out->data + out->count(), got.begin() + first * s.heads * s.d);
        arena.reset();
      }
      EXPECT_LT(relative_error(got.data(), truth), std::string(element) == "F16" ? 1e-3 : 1e-5) << element << " window " << window;
      if (std::string(element) == "F32") whole = got;
      if (!*element) {
        EXPECT_EQ(whole, got) << "cutting a prompt must not change a bit";
      }
    }
  }
}

// A prefix that several segments share, without a cache: to the last bit what whole rows give, and the gradients add up.
TEST_P(EachIsa, SharedPrefixesAreWholeRows) {
  for (int window : {0, 20}) {
    const Attention shape{0, 4, 2, 16, window, 0.25f};
    const int prefix = 71;
    const std::vector<int> tails = {5, 80, 1};
    Batch together;
    together.add(0, 0, std::vector<int>(size_t(prefix), 0), false);
    for (int n : tails) together.add_behind(0, std::vector<int>(size_t(n), 0));
    const int rows = together.rows();
    std::vector<float> q = randoms(size_t(rows) * 64, 1), k = randoms(size_t(rows) * 32, 2), v = randoms(size_t(rows) * 32, 3),
                       dout = randoms(size_t(rows) * 64, 4);
    std::fill(dout.begin(), dout.begin() + prefix * 64, 0.0f);
    // Output and gradients of q, k and v for a batch over the given rows of the data.
    const auto pass = [&](const Batch& batch, const std::vector<int>& from) {
      Tape tape;
      fettle::Run run{arena, pool};
      run.tape = &tape;
      Var* in[3];
      const std::vector<float>* data[] = {&q, &k, &v};
      for (int i = 0; i < 3; i++) {
        const int cols = i ? 32 : 64;
        in[i] = run.make(batch.rows(), cols);
        for (int r = 0; r < batch.rows(); r++) std::copy_n(data[i]->data() + from[size_t(r)] * cols, cols, in[i]->data + r * cols);
      }
      Var* out = attention(run, in[0], in[1], in[2], shape, batch);
      for (int r = 0; r < batch.rows(); r++) std::copy_n(dout.data() + from[size_t(r)] * 64, 64, tape.grad(*out) + r * 64);
      std::vector<std::vector<float>> results(4);
      tape.push([] {});
      results[0].assign(out->data, out->data + out->count());
      std::vector<float*> grads;
      for (Var* x : in) grads.push_back(tape.grad(*x));
      tape.backward();
      for (size_t i = 0; i < 3; i++) results[i + 1].assign(grads[i], grads[i] + in[i]->count());
      arena.reset();
      return results;
    };
    std::vector<int> all(static_cast<size_t>(rows));
    for (int r = 0; r < rows; r++) all[size_t(r)] = r;
    const auto shared = pass(together, all);
    std::vector<std::vector<double>> sums(4);
    for (size_t i = 0; i < 4; i++) sums[i].resize(shared[i].size());
    int first = prefix;
    for (int n : tails) {
      std::vector<int> from(all.begin(), all.begin() + prefix);
      from.insert(from.end(), all.begin() + first, all.begin() + first + n);
      Batch alone;
      alone.add(0, 0, std::vector<int>(from.size(), 0), false);
      const auto whole = pass(alone, from);
      for (size_t r = 0; r < from.size(); r++)
        for (size_t i = 0; i < 4; i++) {
          const int64_t cols = i == 0 || i == 1 ? 64 : 32;
          for (int64_t c = 0; c < cols; c++) {
            const float x = whole[i][r * size_t(cols) + size_t(c)];
            if (i == 0) {
              ASSERT_EQ(x, shared[0][size_t(from[r] * cols + c)]) << "row " << from[r];
            }
            sums[i][size_t(from[r] * cols + c)] += x;
          }
        }
      first += n;
    }
    for (size_t i = 1; i < 4; i++) EXPECT_LT(relative_error(shared[i].data(), sums[i]), 1e-6) << "gradient " << i << " window " << window;
  }
}

TEST(KvCache, SharesWholePagesAndCopiesTheLast) {
  KvCache cache({1, 1, 16}, find_format("F32"), 3, 256);
  ASSERT_TRUE(cache.reserve(0, 100));
  static_cast<float*>(cache.k(0, 0, 0, 0))[0] = 1;
  static_cast<float*>(cache.k(0, 0, 1, 0))[0] = 2;
  ASSERT_TRUE(cache.share(0, 1, 70));
  EXPECT_EQ(cache.k(0, 0, 0, 0), cache.k(0, 1, 0, 0));
  EXPECT_NE(cache.k(0, 0, 1, 0), cache.k(0, 1, 1, 0));
  EXPECT_EQ(static_cast<float*>(cache.k(0, 1, 1, 0))[0], 2);
  EXPECT_EQ(cache.free_tokens(), 64);
  EXPECT_FALSE(cache.reserve(2, 129));
  EXPECT_EQ(cache.free_tokens(), 64);
  cache.clear(0);
  EXPECT_EQ(cache.free_tokens(), 128);
  cache.clear_all();
  EXPECT_EQ(cache.free_tokens(), 256);
}

}  // namespace
}  // namespace fettle
