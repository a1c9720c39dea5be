// The route of embeddings, as a client sees it, of a decoder and of an encoder that is served alone.
#include <cmath>
#include <cstring>

#include "../../tests/broken_model.h"
#include "../../tests/tiny_encoder.h"
#include "serve/test_client.h"

namespace fettle {
namespace {

class EmbeddingsTest : public ServeTest {
 protected:
  TestResponse embed(Json fields) { return post("/v1/embeddings", fields); }
  void serve_encoder() {
    const fs::path path = fs::temp_directory_path() / ("fettle-serve-encoder-" + std::to_string(::getpid()) + ".gguf");
    TinyEncoder{}.write(path);
    serve({}, 512, 4, Model::open(path));
    fs::remove(path);
  }
};

std::vector<float> floats_of(const std::string& base64) {
  static const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t group = 0;
  int bits = 0;
  for (char c : base64) {
    if (c == '=') break;
    group = group << 6 | uint32_t(digits.find(c));
    if ((bits += 6) >= 8) bytes += char(group >> (bits -= 8) & 255);
  }
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), values.size() * 4);
  return values;
}

TEST_F(EmbeddingsTest, TextsAndIdsBecomeTheEnginesVectors) {
  serve_encoder();
  const TestResponse r = embed({{"model", "tiny"}, {"input", {"ab c", "z"}}});
  ASSERT_EQ(r.status, 200) << r.body;
  const Json j = r.json();
  EXPECT_EQ(j["object"], "list");
  EXPECT_EQ(j["model"], "tiny");
  EXPECT_EQ(j["usage"]["prompt_tokens"], 8);
  EXPECT_EQ(j["usage"]["total_tokens"], 8);
  ASSERT_EQ(j["data"].size(), 2u);
  bool cut = false;
  const std::vector<std::vector<int>> texts = {engine_->embedder().encode("ab c", cut), engine_->embedder().encode("z", cut)};
  const auto vectors = engine_->embed(texts);
  for (size_t i = 0; i < 2; i++) {
    EXPECT_EQ(j["data"][i]["index"], i);
    EXPECT_EQ(j["data"][i]["object"], "embedding");
    EXPECT_EQ(j["data"][i]["embedding"].get<std::vector<float>>(), vectors[i]);
  }
  EXPECT_EQ(embed({{"input", texts}}).json()["data"], j["data"]);
  EXPECT_EQ(embed({{"input", texts[0]}}).json()["data"][0], j["data"][0]);
  EXPECT_EQ(embed({{"input", "ab c"}}).json()["data"][0], j["data"][0]);
  const Json packed = embed({{"input", {"ab c", "z"}}, {"encoding_format", "base64"}}).json();
  EXPECT_EQ(floats_of(packed["data"][1]["embedding"]), vectors[1]);
  const std::vector<float> shorter = embed({{"input", "z"}, {"dimensions", 5}}).json()["data"][0]["embedding"];
  ASSERT_EQ(shorter.size(), 5u);
  double squares = 0;
  for (size_t i = 0; i < 5; i++) {
    squares += double(shorter[i]) * shorter[i];
    EXPECT_NEAR(shorter[i] / shorter[0], vectors[1][i] / vectors[1][0], 1e-3 * std::fabs(vectors[1][i] / vectors[1][0]));
  }
  EXPECT_NEAR(squares, 1, 1e-5);
}

TEST_F(EmbeddingsTest, DecodersEmbedBesideTheirAnswers) {
  serve();
  const TestResponse r = embed({{"input", "hello"}});
  ASSERT_EQ(r.status, 200) << r.body;
  EXPECT_EQ(r.json()["data"][0]["embedding"].size(), 64u);
  EXPECT_EQ(chat({{"max_tokens", 2}}).status, 200);
}

TEST_F(EmbeddingsTest, ABrokenModelIsNotTheRequestsFault) {
  const fs::path path = fs::temp_directory_path() / ("fettle-serve-broken-" + std::to_string(::getpid()) + ".gguf"),
                 broken = path.string() + ".broken";
  TinyModel{}.write(path);
  write_broken(path, broken, "blk.0.ffn_up.weight");
  serve({}, 512, 4, Model::open(broken));
  fs::remove(path);
  for (const TestResponse& r : {embed({{"input", "ab"}}), post("/v1/completions", {{"prompt", "ab"}})}) {
    EXPECT_EQ(r.status, 500) << r.body;
    EXPECT_EQ(r.json()["error"]["code"], "model_error");
    EXPECT_NE(r.body.find("blk.0.ffn_up.weight: holds weights that are not finite"), std::string::npos) << r.body;
  }
  fs::remove(broken);
}

TEST_F(EmbeddingsTest, AnEncoderWritesNoText) {
  serve_encoder();
  for (const TestResponse& r : {chat({{"max_tokens", 2}}), complete({{"prompt", "a"}})}) {
    EXPECT_EQ(r.status, 400);
    EXPECT_EQ(r.code(), "unsupported_model") << r.body;
  }
  EXPECT_EQ(ask("GET", "/v1/models/tiny").status, 200);
  EXPECT_EQ(ask("GET", "/metrics").status, 200);
}

TEST_F(EmbeddingsTest, ErrorsNameTheField) {
  serve_encoder();
  const std::pair<Json, const char*> wrong[] = {
      {{{"model", "tiny"}}, "missing_required_parameter"},
      {{{"input", 3}}, "invalid_type"},
      {{{"input", Json::array()}}, "invalid_value"},
      {{{"input", ""}}, "invalid_value"},
      {{{"input", {"a", 4}}}, "invalid_type"},
      {{{"input", {4, -1}}}, "invalid_value"},
      {{{"input", {4, 56}}}, "invalid_value"},
      {{{"input", {Json::array()}}}, "invalid_value"},
      {{{"input", "a"}, {"encoding_format", "hex"}}, "invalid_value"},
      {{{"input", "a"}, {"dimensions", 33}}, "invalid_value"},
      {{{"input", "a b c d e f g h i j k l m n o p"}}, "context_length_exceeded"},
      {{{"input", std::vector<std::string>(2049, "a")}}, "invalid_value"},
  };
  for (const auto& [fields, code] : wrong) {
    const TestResponse r = embed(fields);
    EXPECT_EQ(r.status, 400) << fields.dump().substr(0, 80);
    EXPECT_EQ(r.code(), code) << r.body;
  }
  EXPECT_EQ(embed({{"model", "other"}, {"input", "a"}}).status, 404);
}

}  // namespace
}  // namespace fettle
