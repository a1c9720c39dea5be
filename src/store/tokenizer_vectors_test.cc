// Whole vocabularies: llama.cpp's own vectors for six of them, and SmolLM2's ids as Hugging Face's tokenizers gives them.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "store/store.h"
#include "text/text.h"

namespace fettle {
namespace {

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t start = 0;
  for (size_t at; (at = text.find(separator, start)) != std::string::npos; start = at + separator.size()) {
    parts.push_back(text.substr(start, at - start));
  }
  parts.push_back(text.substr(start));
  return parts;
}

class Vectors : public testing::TestWithParam<std::string> {};

TEST_P(Vectors, EveryLineMatches) {
  const fs::path path = fs::path(FETTLE_SOURCE_DIR) / "../shared/data/tokenizers" / ("ggml-vocab-" + GetParam() + ".gguf");
  if (!fs::exists(path)) GTEST_SKIP() << "no vocabulary at " << path;
  const Tokenizer tokenizer(read_tokenizer_spec(Gguf(path)));
  const auto texts = split(read_text(path.string() + ".inp"), "\n__ggml_vocab_test__\n");
  std::istringstream lines(read_text(path.string() + ".out"));
  size_t row = 0;
  for (std::string line; std::getline(lines, line); ++row) {
    ASSERT_LT(row, texts.size());
    std::istringstream numbers(line);
    const std::vector<int> expected{std::istream_iterator<int>(numbers), {}};
    const auto ids = tokenizer.encode(texts[row]);
    EXPECT_EQ(ids, expected) << "row " << row << ": " << texts[row];
    if (GetParam() != "bert-bge") {  // which drops accents, case and spaces
      EXPECT_EQ(tokenizer.decode(ids), texts[row]);
    }
  }
  EXPECT_GE(row, 40u);
}
INSTANTIATE_TEST_SUITE_P(LlamaCpp, Vectors, testing::Values("gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "bert-bge"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// FETTLE_SMOLLM2 names a GGUF of SmolLM2 (any quantization).
TEST(Vectors, SmolLm2MatchesItsReference) {
  const char* model = std::getenv("FETTLE_SMOLLM2");
  if (model == nullptr || !fs::exists(model)) GTEST_SKIP() << "FETTLE_SMOLLM2 names no file";
  const Tokenizer tokenizer(read_tokenizer_spec(Gguf(model)));
  const auto fixture = nlohmann::json::parse(read_text(fs::path(FETTLE_SOURCE_DIR) / "tests/golden/tokenizer_smollm2.json"));
  ASSERT_GE(fixture["texts"].size(), 100u);
  for (size_t i = 0; i < fixture["texts"].size(); ++i) {
    EXPECT_EQ(tokenizer.encode(fixture["texts"][i].get<std::string>()), fixture["ids"][i].get<std::vector<int>>()) << "row " << i;
  }
}

// More than a megabyte of prose, questions, JSON, templates and many scripts, each piece's ids by digest.
TEST(Vectors, SmolLm2MatchesItsReferenceOnAMegabyteOfMixedText) {
  const char* model = std::getenv("FETTLE_SMOLLM2");
  if (model == nullptr || !fs::exists(model)) GTEST_SKIP() << "FETTLE_SMOLLM2 names no file";
  const fs::path data = fs::path(FETTLE_SOURCE_DIR) / "../shared/data";
  if (!fs::exists(data / "wikitext2/test.txt")) GTEST_SKIP() << "no texts at " << data;
  const Tokenizer tokenizer(read_tokenizer_spec(Gguf(model)));
  const auto pieces = nlohmann::json::parse(read_text(fs::path(FETTLE_SOURCE_DIR) / "tests/golden/tokenizer_text.json"));
  size_t bytes = 0, at = 0;
  std::string file, text;
  for (const auto& piece : pieces) {
    if (piece["file"] != file) text = read_text(data / (file = piece["file"])), at = 0;
    const std::string part = text.substr(at, piece["bytes"]);
    at += part.size();
    bytes += part.size();
    const std::vector<int> ids = tokenizer.encode(part);
    EXPECT_EQ(ids.size(), piece["ids"].get<size_t>()) << file << " up to byte " << at;
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(ids))), piece["sha256"].get<std::string>()) << file << " up to byte " << at;
    EXPECT_EQ(tokenizer.decode(ids), part);
  }
  EXPECT_GT(bytes, 1000000u);
}

}  // namespace
}  // namespace fettle
