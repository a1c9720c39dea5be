// Attention against its definition on every instruction set that this machine runs, and the cache that it reads.
#include "op/kernels.h"
#include "op/test_operands.h"

namespace fettle {
namespace {

// Attention of one sequence in doubles, as the definition says it.
std::vector<double> plain_attention(const float* q, const float* k, const float* v, int n, const Shapes& s, double cap = 0,
                                    bool causal = true) {
  std::vector<double> out(size_t(n) * s.heads * s.d);
  for (int t = 0; t < n; t++)
    for (int h = 0; h < s.heads; h++) {
      const int kv = h / (s.heads / s.kv_heads);
      const int last = causal ? t : n - 1;
      std::vector<double> p(size_t(last) + 1, 0.0);
      double sum = 0;
      for (int u = s.window ? std::max(0, t + 1 - s.window) : 0; u <= last; u++) {
        double dot = 0;
        for (int i = 0; i < s.d; i++) dot += double(q[(t * s.heads + h) * s.d + i]) * k[(u * s.kv_heads + kv) * s.d + i];
        const double score = dot / std::sqrt(double(s.d));
        sum += p[size_t(u)] = std::exp(cap > 0 ? cap * std::tanh(score / cap) : score);
      }
      for (int u = 0; u <= last; u++)
        for (int i = 0; i < s.d; i++) out[size_t((t * s.heads + h) * s.d + i)] += p[size_t(u)] / sum * v[(u * s.kv_heads + kv) * s.d + i];
    }
  return out;
}

// q, k and v of n tokens of one sequence, and its attention piece by piece: positions [cuts[i], cuts[i + 1]) are one batch.
struct Sequence {
  Shapes s;
  int n;
  std::vector<float> q, k, v;
  Attention shape{1, s.heads, s.kv_heads, s.d, s.window, 1 / std::sqrt(float(s.d))};
  Sequence(Shapes shapes, int tokens)
      : s(shapes),
        n(tokens),
        q(randoms(size_t(n) * s.heads * s.d, 1)),
        k(randoms(size_t(n) * s.kv_heads * s.d, 2)),
        v(randoms(size_t(n) * s.kv_heads * s.d, 3)) {}

  std::unique_ptr<KvCache> cache(const char* element) const {
    return std::make_unique<KvCache>(KvCache::Shape{2, s.kv_heads, s.d}, find_format(element), 3, 512);
  }
  std::vector<double> truth() const { return plain_attention(q.data(), k.data(), v.data(), n, s); }
  // Of the tokens from cuts[0] on, which lie in `slot` afterwards. cache: nullptr for none.
  std::vector<float> attend(Arena& arena, Pool& pool, KvCache* cache, int slot, const std::vector<int>& cuts) {
    std::vector<float> got;
    EXPECT_TRUE(!cache || cache->reserve(slot, cuts.back()));
    for (size_t c = 0; c + 1 < cuts.size(); c++) {
      const int first = cuts[c], count = cuts[c + 1] - first;
      fettle::Run run{arena, pool, cache};
      Batch batch;
      batch.add(slot, first, std::vector<int>(size_t(count), 0));
      Var vq{q.data() + first * s.heads * s.d, nullptr, count, s.heads * s.d},
          vk{k.data() + first * s.kv_heads * s.d, nullptr, count, s.kv_heads * s.d},
          vv{v.data() + first * s.kv_heads * s.d, nullptr, count, s.kv_heads * s.d};
      const Var* out = attention(run, &vq, &vk, &vv, shape, batch);
      got.insert(got.end(), out->data, out->data + out->count());
      arena.reset();
    }
    return got;
  }
};

TEST_P(EachIsa, AttentionAgreesWithItsDefinitionInCacheAndOut) {
  for (int d : {32, 40, 64})
    for (int window : {0, 20}) {
      Sequence one({6, 2, d, window}, 150);
      const std::vector<double> truth = one.truth();
      std::vector<float> outside = one.attend(arena, pool, nullptr, 0, {0, one.n});
      EXPECT_LT(relative_error(outside.data(), truth), 1e-5) << "no cache, window " << window;
      for (auto [element, most] : {std::pair("F32", 1e-5), std::pair("F16", 1e-3), std::pair("Q8_0", 1.2e-2)}) {
        const std::vector<float> whole = one.attend(arena, pool, one.cache(element).get(), 1, {0, one.n}),
                                 pieces = one.attend(arena, pool, one.cache(element).get(), 1, {0, 7, 8, 90, one.n});
        EXPECT_LT(relative_error(whole.data(), truth), most) << element << " of " << d << ", window " << window;
        EXPECT_EQ(whole, pieces) << element << ": cutting a prompt must not change a bit";
        if (std::string(element) == "F32") {
          EXPECT_EQ(whole, outside);
        }
      }
    }
}

TEST_P(EachIsa, CappedScoresAgreeWithTheirDefinition) {
  for (int window : {0, 20}) {
    Sequence one({6, 2, 40, window}, 150);
    one.shape.soft_cap = 0.7f;
    const std::vector<double> truth = plain_attention(one.q.data(), one.k.data(), one.v.data(), one.n, one.s, double(0.7f));
    EXPECT_GT(relative_error(std::vector<float>(truth.begin(), truth.end()).data(), one.truth()), 0.02) << "the cap is felt";
    EXPECT_LT(relative_error(one.attend(arena, pool, nullptr, 0, {0, one.n}).data(), truth), 1e-5) << window;
    EXPECT_LT(relative_error(one.attend(arena, pool, one.cache("F32").get(), 1, {0, 7, 90, one.n}).data(), truth), 1e-5) << window;
  }
}

// An encoder's: texts side by side, each of which sees all of itself and nothing else.
TEST_P(EachIsa, AttentionInBothDirectionsAgreesWithItsDefinition) {
  Sequence one({6, 2, 40, 0}, 150);
  one.shape.causal = false;
  Batch batch;
  for (const auto& [first, end] : {std::pair(0, 1), {1, 70}, {70, 150}}) batch.add(0, 0, std::vector<int>(size_t(end - first), 0));
  Var q{one.q.data(), nullptr, one.n, 240}, k{one.k.data(), nullptr, one.n, 80}, v{one.v.data(), nullptr, one.n, 80};
  fettle::Run run{arena, pool, nullptr};
  const Var* out = attention(run, &q, &k, &v, one.shape, batch);
  for (const Batch::Segment& s : batch.segments) {
    const std::vector<double> truth =
        plain_attention(one.q.data() + s.first * 240, one.k.data() + s.first * 80, one.v.data() + s.first * 80, s.count, one.s, 0, false);
    EXPECT_LT(relative_error(out->data + s.first * 240, truth), 1e-5) << s.count;
  }
}

// Numbers that 8 bits hold exactly, under scales that differ from block to block, from token to token and from head to head: any that went
// to another place would be seen.
TEST_P(EachIsa, BytesThatHoldTheNumbersExactlyLoseNothing) {
  for (int d : {32, 40, 64}) {
    Sequence one({4, 2, d, 0}, 150);
    Random random(d);
    for (std::vector<float>* x : {&one.q, &one.k, &one.v})
      for (size_t at = 0; at + size_t(d) <= x->size(); at += size_t(d))
        for (int block = 0; block < d; block += 32) {
          const float scale = float(1 + random.below(40)) / 4096;
          for (int j = block; j < std::min(block + 32, d); j++)
            (*x)[at + size_t(j)] = scale * float(j == block ? 127 : int(random.below(255)) - 127);
        }
    const std::vector<float> got = one.attend(arena, pool, one.cache("Q8_0").get(), 1, {0, 70, 71, one.n});
    EXPECT_LT(relative_error(got.data(), one.truth()), 1e-5) << d;
  }
}

TEST_P(EachIsa, BytesCutNothingOff) {
  std::vector<float> x = randoms(32 * 64, 5);
  for (int b = 0; b < 64; b++)
    for (int j = 0; j < 32; j++) x[size_t(b * 32 + j)] *= std::pow(2.0f, float(b - 43));
  std::fill_n(x.begin(), 32, 0.0f);
  std::vector<int8_t> codes(x.size());
  std::vector<uint16_t> scales(64);
  kernels().to_bytes(x.data(), 32 * 64, codes.data(), scales.data());
  for (int b = 0; b < 64; b++) {
    const float scale = float_from_half(scales[size_t(b)]);
    float largest = 0;
    for (int j = 0; j < 32; j++) {
      EXPECT_LE(std::fabs(float(codes[size_t(b * 32 + j)]) * scale - x[size_t(b * 32 + j)]), scale * 0.50001f) << b;
      largest = std::max(largest, std::fabs(x[size_t(b * 32 + j)]));
    }
    EXPECT_LE(scale, std::max(largest / 127 * 1.001f, largest / 127 + 0x1p-24f)) << b;
  }
}

// What shared pages, pages cut back and pages with old tokens in them hold is what a sequence of its own would.
TEST_P(EachIsa, SequencesThatShareAndShrinkAreAsIfAlone) {
  Sequence one({6, 2, 40, 0}, 150), other({6, 2, 40, 0}, 150);
  other.k = randoms(one.k.size() - 16, 12), other.v = randoms(one.v.size() - 16, 13);
  std::copy_n(one.k.begin(), 70 * 80, other.k.begin());
  std::copy_n(one.v.begin(), 70 * 80, other.v.begin());
  for (const char* element : {"F32", "F16", "Q8_0"}) {
    const std::vector<float> expected = one.attend(arena, pool, one.cache(element).get(), 0, {0, one.n});
    const std::unique_ptr<KvCache> cache = one.cache(element);
    other.attend(arena, pool, cache.get(), 0, {0, other.n});
    ASSERT_TRUE(cache->share(0, 1, 70));
    const std::vector<float> behind = one.attend(arena, pool, cache.get(), 1, {70, one.n});
    EXPECT_TRUE(std::equal(behind.begin(), behind.end(), expected.begin() + 70 * 240)) << element << ", shared";
    cache->truncate(0, 70);
    const std::vector<float> again = one.attend(arena, pool, cache.get(), 0, {70, 71, 100, one.n});
    EXPECT_EQ(behind, again) << element << ", cut back";
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

TEST(KvCache, BytesTakeLittleMoreThanHalf) {
  const KvCache::Shape shape{2, 3, 64}, odd{2, 3, 80};
  const int64_t halves = shape.token_bytes(find_format("F16")), bytes = shape.token_bytes(find_format("Q8_0"));
  EXPECT_EQ(halves, 2 * 2 * 3 * 64 * 2);
  EXPECT_EQ(bytes * 64, halves * 34);
  EXPECT_EQ(odd.token_bytes(find_format("Q8_0")), 2 * 2 * 3 * 3 * 34);  // a last block that is half empty
  for (const char* element : {"F32", "F16", "Q8_0"})
    EXPECT_EQ(KvCache(odd, find_format(element), 1, 100).bytes(), 128 * odd.token_bytes(find_format(element)));
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
