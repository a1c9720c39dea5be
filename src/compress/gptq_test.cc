// GPTQ against the other methods, and against the textbook's form in doubles.
#include "compress/metric.h"
#include "compress/test_files.h"

namespace fettle {
namespace {

// tr(E H E^T) of E = a - b, by the definition.
double output_error(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& h, int n) {
  double sum = 0;
  for (size_t r = 0; r < a.size(); r += size_t(n))
    for (size_t i = 0; i < size_t(n); i++)
      for (size_t j = 0; j < size_t(n); j++)
        sum += (double(a[r + i]) - b[r + i]) * double(h[i * size_t(n) + j]) * (double(a[r + j]) - b[r + j]);
  return sum;
}
// Inputs that go together, as a model's do: few directions and a little of everything.
std::vector<float> covariance_of(int n, int tokens, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(size_t(tokens * n)), directions(size_t(8 * n)), h(size_t(n * n));
  for (float& d : directions) d = float(random.normal());
  for (int t = 0; t < tokens; t++)
    for (int d = 0; d < 8; d++) {
      const float a = float(random.normal());
      for (int i = 0; i < n; i++) x[size_t(t * n + i)] += a * directions[size_t(d * n + i)] + 0.2f * float(random.normal());
    }
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      double sum = 0;
      for (int t = 0; t < tokens; t++) sum += double(x[size_t(t * n + i)]) * x[size_t(t * n + j)];
      h[size_t(i * n + j)] = float(sum);
    }
  return h;
}
std::vector<float> some_weights(int rows, int n, uint64_t seed) {
  Random random(seed);
  std::vector<float> w(size_t(rows * n));
  for (float& x : w) x = 0.05f * float(random.normal());
  return w;
}
std::vector<float> encoded(const char* method, const Format& f, const std::vector<float>& w, int n, const InputMetric& metric,
                           const std::vector<float>& h, Pool& pool) {
  const int rows = int(w.size()) / n;
  std::vector<std::byte> blocks(size_t(f.bytes_for(int64_t(w.size()))));
  std::vector<float> importance, y(w.size());
  for (int i = 0; i < n; i++) importance.push_back(h[size_t(i * n + i)]);
  find_method(method).encode({f, n, importance.data(), &metric, pool}, w.data(), rows, blocks.data());
  f.decode(blocks.data(), y.data(), int64_t(w.size()));
  return y;
}

TEST(Gptq, OutputErrorIsBelowTheOtherMethodsForEveryFormat) {
  constexpr int n = 512;
  Pool pool(2);
  const std::vector<float> h = covariance_of(n, 700, 21), w = some_weights(6, n, 22);
  const InputMetric metric(h.data(), n, pool);
  int compared = 0;
  for (const Format* f : formats()) {
    if (!f->encode || !f->recode) continue;
    compared++;
    const auto error = [&](const char* method) { return output_error(w, encoded(method, *f, w, n, metric, h, pool), h, n); };
    const double gptq = error("gptq");
    EXPECT_LT(gptq, 0.7 * error("rtn")) << f->name;
    EXPECT_LT(gptq, 0.7 * error("weighted")) << f->name;
  }
  EXPECT_GE(compared, 12);
}

// The paper's own form, in doubles: the inverse of H, its Cholesky factor, and every later column corrected after each one.
struct Textbook {
  int n;
  std::vector<double> upper;  // U of H^-1 = U^T U
  explicit Textbook(const std::vector<float>& h, int size) : n(size), upper(size_t(size * size)) {
    const size_t m = size_t(n);
    std::vector<double> a(m * m), inverse(m * m);
    double trace = 0;
    for (size_t i = 0; i < m; i++) trace += double(h[i * m + i]), inverse[i * m + i] = 1;
    for (size_t i = 0; i < m * m; i++) a[i] = double(h[i]) + (i % (m + 1) == 0 ? 0.01 * trace / n : 0);
    for (size_t p = 0; p < m; p++) {  // Gauss and Jordan
      const double pivot = a[p * m + p];
      for (size_t j = 0; j < m; j++) a[p * m + j] /= pivot, inverse[p * m + j] /= pivot;
      for (size_t i = 0; i < m; i++) {
        if (i == p) continue;
        const double factor = a[i * m + p];
        for (size_t j = 0; j < m; j++) a[i * m + j] -= factor * a[p * m + j], inverse[i * m + j] -= factor * inverse[p * m + j];
      }
    }
    for (size_t i = 0; i < m; i++)
      for (size_t j = i; j < m; j++) {
        double sum = inverse[i * m + j];
        for (size_t l = 0; l < i; l++) sum -= upper[l * m + i] * upper[l * m + j];
        upper[i * m + j] = i == j ? std::sqrt(sum) : sum / upper[i * m + i];
      }
  }
  // One row of Q8_0 or Q4_0: scales searched where a block begins, as the format does.
  std::vector<float> quantize(const Format& f, const float* weights, const float* importance) const {
    std::vector<double> w(weights, weights + n);
    std::vector<float> result(size_t(n), 0.0f);
    float scale = 0, min = 0;
    for (int j = 0; j < n; j++) {
      if (j % f.block == 0) {
        std::vector<float> now(w.begin() + j, w.begin() + j + f.block);
        std::vector<std::byte> b(size_t(f.block_bytes));
        std::vector<uint8_t> codes(size_t(f.block));
        f.encode(now.data(), b.data(), f.block, importance + j);
        f.unpack(b.data(), f.block, codes.data(), &scale, &min);
      }
      const double code = std::clamp(std::floor((w[size_t(j)] - double(min)) / double(scale) + 0.5), 0.0, double(f.codes - 1));
      result[size_t(j)] = float(double(scale) * code + double(min));
      const size_t m = size_t(n), p = size_t(j);
      const double error = (w[p] - double(result[p])) / upper[p * m + p];
      for (size_t k = p; k < m; k++) w[k] -= error * upper[p * m + k];
    }
    return result;
  }
};

TEST(Gptq, EqualsTheTextbook) {
  constexpr int n = 160;
  Pool pool(2);
  const std::vector<float> h = covariance_of(n, 400, 31), w = some_weights(12, n, 32);
  const InputMetric metric(h.data(), n, pool);
  const Textbook book(h, n);
  for (int k = 0; k < n; k++) {
    const double diagonal = 1 / std::pow(book.upper[size_t(k * n + k)], 2);  // D_k = 1 / U_kk^2
    EXPECT_NEAR(metric.diagonal()[k], diagonal, 1e-3 * diagonal);
  }
  std::vector<float> importance;
  for (int i = 0; i < n; i++) importance.push_back(h[size_t(i * n + i)]);
  for (const char* name : {"Q4_0", "Q4_1", "Q5_0"}) {
    const Format& f = *find_format(name);
    const std::vector<float> y = encoded("gptq", f, w, n, metric, h, pool);
    // A tie that falls the other way in floats sends the rest of its row elsewhere: most rows are the same to the last code.
    int same = 0;
    double ours = 0, theirs = 0;
    for (size_t r = 0; r < w.size(); r += n) {
      const std::vector<float> row(w.begin() + long(r), w.begin() + long(r + n)), mine(y.begin() + long(r), y.begin() + long(r + n));
      const std::vector<float> expected = book.quantize(f, row.data(), importance.data());
      bool equal = true;
      for (size_t i = 0; i < n; i++) equal = equal && std::fabs(mine[i] - expected[i]) < 1e-6f;
      same += equal;
      ours += output_error(row, mine, h, n);
      theirs += output_error(row, expected, h, n);
    }
    EXPECT_GE(same, 8) << name;
    EXPECT_NEAR(ours, theirs, 0.1 * theirs) << name;
  }
}

// What LoRA learns on a base that lies on the grid already: small against a step, the same direction in every row. Rounding loses it.
TEST(Gptq, KeepsACoherentUpdateOfABaseOnTheGrid) {
  constexpr int n = 256, rows = 32;
  Pool pool(2);
  const std::vector<float> h = covariance_of(n, 600, 41);
  const InputMetric metric(h.data(), n, pool);
  const Format& f = *find_format("Q4_1");
  std::vector<float> raw = some_weights(rows, n, 42), base(raw.size());
  std::vector<std::byte> blocks(size_t(f.bytes_for(int64_t(raw.size()))));
  f.encode(raw.data(), blocks.data(), int64_t(raw.size()), nullptr);
  f.decode(blocks.data(), base.data(), int64_t(raw.size()));
  // Along the inputs' own strongest directions, as gradients are: a row of H.
  std::vector<float> tuned = base;
  Random random(43);
  for (size_t r = 0; r < rows; r++) {
    const double b = random.normal();
    for (size_t i = 0; i < n; i++) tuned[r * n + i] += float(0.002 * b * double(h[i]) / double(h[0]));
  }
  const double learned = output_error(tuned, base, h, n);
  const double rtn = output_error(tuned, encoded("rtn", f, tuned, n, metric, h, pool), h, n);
  const double gptq = output_error(tuned, encoded("gptq", f, tuned, n, metric, h, pool), h, n);
  EXPECT_GT(rtn, 0.7 * learned);
  EXPECT_LT(gptq, 0.3 * learned);
}

TEST_F(CompressTest, GptqDoesNotDependOnThreadsAndBeatsTheOthersOnAModel) {
  for (uint64_t size : {uint64_t(0), uint64_t(80000)}) {
    QuantizeOptions options;
    options.type = "Q4_1";
    options.size_bytes = size;
    Calibration one = calibration(1), three = calibration(3);
    options.calibration = &one;
    run(options, "one.gguf", 1);
    options.calibration = &three;
    run(options, "three.gguf", 3);
    EXPECT_EQ(bytes("one.gguf"), bytes("three.gguf"));
  }
  QuantizeOptions options;
  options.type = "Q4_0";
  Calibration inputs = calibration();
  const std::vector<ImportanceEntry> measured = inputs.importance();
  options.importance = &measured;
  run(options, "weighted.gguf");
  options.calibration = &inputs;
  run(options, "gptq.gguf");
  Pool pool(2);
  const Gguf original(source_), weighted(folder_ / "weighted.gguf"), gptq(folder_ / "gptq.gguf");
  double least = 0, most = 0;
  for (const ImportanceEntry& e : measured) {
    const int n = int(e.sum_squares.size());
    const float* upper = inputs.covariance(e.name, pool);
    std::vector<float> h(upper, upper + n * n);
    for (int i = 0; i < n; i++)
      for (int j = 0; j < i; j++) h[size_t(i * n + j)] = h[size_t(j * n + i)];
    const std::vector<float> w = weights(original, e.name);
    const double scale = output_error(w, std::vector<float>(w.size()), h, n);
    least += output_error(w, weights(gptq, e.name), h, n) / scale;
    most += output_error(w, weights(weighted, e.name), h, n) / scale;
  }
  EXPECT_LT(least, 0.95 * most);
  options.calibration = nullptr;
  options.method = "gptq";
  EXPECT_NE(message([&] { run(options); }).find("calibrate on"), std::string::npos);
}

}  // namespace
}  // namespace fettle
