// tokenizer.json against Hugging Face's tokenizers: every component, on texts that are hard to cut up (make_tokenizer_json_golden.py).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/base.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

const Json& golden() {
  static const Json document = [] {
    std::ifstream file(std::string(FETTLE_SOURCE_DIR) + "/tests/golden/tokenizer_json.json");
    return Json::parse(file);
  }();
  return document;
}

// As the reference shows bytes that are no UTF-8.
std::string shown(const std::string& text) {
  Utf8Stream stream;
  std::string out = stream.push(text);
  return out + stream.finish();
}

Json file_of(const Json& entry) {
  Json file = entry["file"];
  file["model"] = golden()["models"][entry["model"].get<std::string>()];
  if (entry.contains("ignore_merges")) file["model"]["ignore_merges"] = true;
  return file;
}

TEST(TokenizerJson, EveryComponentGivesTheReferencesIdsAndTexts) {
  ASSERT_GE(golden()["tokenizers"].size(), 90u);
  for (const Json& entry : golden()["tokenizers"]) {
    const auto name = entry["name"].get<std::string>();
    SCOPED_TRACE(name);
    const Tokenizer tokenizer(read_tokenizer_json(file_of(entry).dump(), "tokenizer.json"));
    for (size_t i = 0; i < entry["ids"].size(); ++i) {
      const auto text = golden()["texts"][i * entry["step"].get<size_t>()].get<std::string>();
      const auto ids = entry["ids"][i].get<std::vector<int>>();
      // a byte's name spelled in a text is text to us, so that decoding gives it back; the reference reads the byte
      if (name == "unigram bytes" && text.find("<0x") != std::string::npos) continue;
      EXPECT_EQ(tokenizer.encode_special(text, true), ids) << text;
      EXPECT_EQ(shown(tokenizer.decode(ids)), entry["texts"][i].get<std::string>()) << text;
      EXPECT_EQ(shown(tokenizer.decode(ids, true)), entry[entry.contains("whole") ? "whole" : "texts"][i].get<std::string>()) << text;
    }
  }
}

}  // namespace
}  // namespace fettle
