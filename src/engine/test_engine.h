// An engine on the tiny model, and what a plain loop over the model computes in its place. For tests only.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "../../tests/message.h"
#include "../../tests/tiny_model.h"
#include "engine/engine.h"

namespace fettle {

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

  fs::path path_;
  std::shared_ptr<Model> model_;
};

}  // namespace fettle
