// A folder with a tiny model, and what tests of the room do with it. For tests only.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <set>

#include "../../tests/message.h"
#include "../../tests/tiny_model.h"
#include "compress/compress.h"

namespace fettle {

class CompressTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("fettle-compress-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    source_ = folder_ / "tiny.gguf";
    TinyModel{}.write(source_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  QuantizeResult run(const QuantizeOptions& options, const std::string& name = "out.gguf", int threads = 2) {
    Pool pool(threads);
    return quantize(source_, folder_ / name, options, pool, {});
  }
  // A tiny model whose rows of 576 do not divide by 256.
  void use_rows_of_576() {
    TinyModel tiny;
    tiny.layers = 1;
    tiny.d_model = 576;
    tiny.heads = 9;
    tiny.kv_heads = 3;
    tiny.d_ff = 768;
    tiny.write(source_);
  }
  static std::vector<std::vector<int>> token_rows() {
    std::vector<std::vector<int>> rows;
    Random random(3);
    for (int n : {40, 7, 300, 1}) {
      rows.emplace_back();
      for (int i = 0; i < n; i++) rows.back().push_back(int(random.below(256)));
    }
    return rows;
  }
  Calibration calibration(int threads = 2, const Calibration::Limits& limits = {}) {
    Pool pool(threads);
    return Calibration(Model::open(source_), token_rows(), pool, {}, limits);
  }
  std::vector<ImportanceEntry> importance(int threads = 2) { return calibration(threads).importance(); }
  std::string bytes(const std::string& name) { return read_text(folder_ / name); }
  static std::vector<float> weights(const Gguf& file, const std::string& name) {
    const Tensor& t = file.tensor(name);
    std::vector<float> w(size_t(t.shape.count()));
    t.format->decode(t.bytes.data(), w.data(), t.shape.count());
    return w;
  }
  // Sum over a tensor of importance * (a - b)^2.
  static double weighted_error(const Gguf& a, const Gguf& b, const ImportanceEntry& e) {
    const std::vector<float> x = weights(a, e.name), y = weights(b, e.name);
    double sum = 0;
    for (size_t i = 0; i < x.size(); i++) sum += e.sum_squares[i % e.sum_squares.size()] * std::pow(double(x[i]) - double(y[i]), 2);
    return sum;
  }
  // The source in Q4_1: weights that lie on that format's grid.
  std::shared_ptr<Model> on_the_grid(const std::string& name, Pool& pool) {
    QuantizeOptions o;
    o.type = "Q4_1";
    quantize(source_, folder_ / name, o, pool, nullptr);
    return Model::open(folder_ / name);
  }
  std::set<std::string> files() {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.insert(entry.path().filename());
    return names;
  }

  fs::path folder_, source_;
};

}  // namespace fettle
