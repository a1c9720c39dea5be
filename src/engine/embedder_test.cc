// Embeddings of an encoder and of a decoder against a plain pass over each text, and what becomes of texts that are too long.
#include "../../tests/tiny_encoder.h"
#include "engine/test_engine.h"

namespace fettle {
namespace {

class EmbedderTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    encoder_path_ = path_.string() + ".bert";
    TinyEncoder{}.write(encoder_path_);
    encoder_ = Model::open(encoder_path_);
  }
  void TearDown() override {
    fs::remove(encoder_path_);
    EngineTest::TearDown();
  }

  // One text's states, alone in its batch: (tokens, d_model).
  static std::vector<std::vector<double>> states(Model& model, const std::vector<int>& ids) {
    Pool pool(1);
    Arena arena;
    Batch batch;
    batch.add(0, 0, ids);
    fettle::Run run{arena, pool, nullptr, nullptr, nullptr, Precision::exact};
    const Var* y = model.hidden(run, batch);
    std::vector<std::vector<double>> rows;
    for (int64_t r = 0; r < y->rows; r++) rows.emplace_back(y->data + r * y->cols, y->data + (r + 1) * y->cols);
    return rows;
  }

  static std::vector<double> plain(const std::vector<std::vector<double>>& states, Pooling pooling, bool normalize) {
    std::vector<double> v = pooling == Pooling::last ? states.back() : states.front();
    if (pooling == Pooling::mean)
      for (size_t i = 0; i < v.size(); i++) {
        v[i] = 0;
        for (const auto& row : states) v[i] += row[i] / double(states.size());
      }
    double length = 0;
    for (double x : v) length += x * x;
    if (normalize)
      for (double& x : v) x /= std::sqrt(length);
    return v;
  }

  fs::path encoder_path_;
  std::shared_ptr<Model> encoder_;
};

TEST_F(EmbedderTest, VectorsAreTheDefinitionsWhateverElseIsAsked) {
  for (const auto& model : {encoder_, model_}) {
    std::vector<std::vector<int>> texts;
    Random random(3);
    for (int i = 0; i < 300; i++) {
      texts.emplace_back();
      for (size_t n = 1 + random.below(16); texts.back().size() < n;) texts.back().push_back(int(random.below(50)));
    }
    for (Pooling pooling : {Pooling::mean, Pooling::cls, Pooling::last})
      for (bool normalize : {false, true}) {
        Embedder embedder(model, {.pooling = pooling, .normalize = normalize, .threads = 2, .precision = Precision::exact});
        const auto vectors = embedder.embed(texts);
        ASSERT_EQ(vectors.size(), texts.size());
        for (size_t i = 0; i < texts.size(); i += 23) {
          const std::vector<double> truth = plain(states(*model, texts[i]), pooling, normalize);
          ASSERT_EQ(vectors[i].size(), truth.size());
          for (size_t j = 0; j < truth.size(); j++) EXPECT_NEAR(vectors[i][j], truth[j], 2e-5) << i << " " << j;
          EXPECT_EQ(embedder.embed({&texts[i], 1})[0], vectors[i]) << "alone";
        }
      }
  }
}

TEST_F(EmbedderTest, TextsStandBetweenTheModelsTokensAndAreCutBeforeTheLast) {
  const Embedder embedder(encoder_, {.threads = 1});
  constexpr int kInside = TinyEncoder::kA + 26;
  bool cut = true;
  EXPECT_EQ(embedder.encode("Ab c", cut),
            (std::vector<int>{TinyEncoder::kCls, TinyEncoder::kA, kInside + 1, TinyEncoder::kA + 2, TinyEncoder::kSep}));
  EXPECT_FALSE(cut);
  const std::vector<int> ids = embedder.encode("a a a a a a a a a a a a a a a a a a b", cut);
  EXPECT_TRUE(cut);
  ASSERT_EQ(ids.size(), 16u);
  EXPECT_EQ(ids.front(), TinyEncoder::kCls);
  EXPECT_EQ(ids[14], TinyEncoder::kA);
  EXPECT_EQ(ids.back(), TinyEncoder::kSep);
}

TEST_F(EmbedderTest, WhatHasNoVectorIsRefused) {
  Embedder embedder(encoder_, {.threads = 1});
  for (const std::vector<int>& bad : {std::vector<int>{}, {-1}, {56}, std::vector<int>(17, 4)})
    EXPECT_THROW(embedder.embed({&bad, 1}), Error);
  EXPECT_TRUE(embedder.embed({}).empty());
}

TEST_F(EmbedderTest, AnEncodersEngineEmbedsAndWritesNoText) {
  Engine engine(encoder_, options());
  EXPECT_THROW(engine.generate(request({4, 5}, 3)), Error);
  const std::vector<int> text = {TinyEncoder::kCls, 7, TinyEncoder::kSep};
  const std::vector<double> truth = plain(states(*encoder_, text), Pooling::mean, true);
  const std::vector<float> vector = engine.embed({&text, 1})[0];
  for (size_t j = 0; j < truth.size(); j++) EXPECT_NEAR(vector[j], truth[j], 1e-5);
  EXPECT_EQ(engine.stats().requests, 1u);
  EXPECT_EQ(engine.stats().prompt_tokens, 3u);
}

TEST_F(EmbedderTest, AnEncoderIsRefusedWhereTextIsMade) {
  Pool pool(1);
  Arena arena;
  Batch batch;
  batch.add(0, 0, std::vector<int>{2, 4, 3});
  fettle::Run run{arena, pool};
  EXPECT_THROW(encoder_->logits(run, batch), Error);
  EXPECT_THROW(encoder_->chat_format(), Error);
  Tape tape;
  run.tape = &tape;
  EXPECT_THROW(encoder_->hidden(run, batch), Error);
}

}  // namespace
}  // namespace fettle
