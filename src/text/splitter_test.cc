// Scanners against the regexes that they stand for, and every pre-tokenizer that GGUF has a name for.
#include "text/splitter.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/base.h"
#include "text/bpe.h"
#include "text/regexes.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace fettle {
namespace {

std::vector<std::string> texts() {
  std::ifstream file(std::string(FETTLE_SOURCE_DIR) + "/tests/golden/tokenizer_small.json");
  auto all = nlohmann::json::parse(file)["texts"].get<std::vector<std::string>>();
  all.insert(all.end(), {"\xFF"
                         "a\x80 'S\xC5\xBF",
                         "1\xE2\x82"
                         "22 \n",
                         std::string(3000, ' ') + "x", std::string(3000, '\n') + "  x", "'\xC5\xBF's"});
  return all;
}

TEST(Splitter, ScannersCutAsTheirRegexesDo) {
  for (const std::string_view text : {kGpt2Regex, kLlama3Regex, kQwen2Regex, kQwen35Regex, kTekkenRegex, kO200kRegex}) {
    SCOPED_TRACE(std::string(text));
    const Regex regex(text, "regex");
    ASSERT_TRUE(find_scanner(text).has_value());
    const Splitter splitter({{.kind = SplitStep::Kind::pattern, .pattern = {std::string(text), true}}}, "scanner");
    for (const std::string& all : texts()) {
      if (!valid_utf8(all)) continue;  // bytes that are no UTF-8 are pieces of punctuation to scanners, and no match to regexes
      std::vector<std::string> expected, pieces;
      regex.each_match(all, [&](size_t begin, size_t end) { expected.push_back(all.substr(begin, end - begin)); });
      splitter.split(all, true, [&](std::string_view piece) { pieces.emplace_back(piece); });
      EXPECT_EQ(pieces, expected) << all;
    }
  }
}

constexpr const char* kNames =
    "gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat a.x-4.0 mellum exaone4 modern-bert jina-v2-code "
    "roberta-bpe smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 llama-bpe llama3 llama-v3 falcon3 "
    "falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe glm4 chatglm-bpe qwen2 deepseek-r1-qwen kormo f2llmv2 "
    "megrez stablelm2 hunyuan solar-open grok-2 qwen35 tekken gpt-4o llama4 kanana2 talkie minimax-m2 "
    "granite-embed-multi-97m tiny_aya cohere2moe jais-2 deepseek-coder deepseek-llm deepseek-v3 hunyuan-dense joyai-llm "
    "youtu falcon poro-chat bloom gpt3-finnish viking chameleon kimi-k2 superbpe bailingmoe bailingmoe2 llada-moe "
    "seed-coder afmoe laguna exaone-moe minicpm5 ";

TEST(Splitter, EveryPieceOfEveryNamedPreTokenizerComesBack) {
  TokenizerSpec spec;
  spec.place = "bytes.gguf";
  spec.model = "gpt2";
  for (int b = 0; b < 256; ++b) append_utf8(spec.tokens.emplace_back(), letter_of_byte(static_cast<uint8_t>(b)));
  size_t n = 0;
  std::istringstream names(kNames);
  for (std::string name; names >> name;) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(pre_tokenizer_regexes(name).has_value());
    spec.pre = name;
    const Tokenizer tokenizer(spec);
    for (const std::string& text : texts()) EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    ++n;
  }
  EXPECT_GE(n, 70u);
  for (const char* name : {"", "default", "gpt", "-2", "phi-2 mpt"}) EXPECT_FALSE(pre_tokenizer_regexes(name).has_value()) << name;
}

}  // namespace
}  // namespace fettle
