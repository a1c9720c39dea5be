// Tokenizers against ids that Hugging Face's tokenizers made (tests/golden/make_tokenizer_golden.py), and against hostile vocabularies.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/base.h"
#include "text/bpe.h"

namespace fettle {
namespace {

nlohmann::json golden(const std::string& name) {
  std::ifstream file(std::string(FETTLE_SOURCE_DIR) + "/tests/golden/" + name);
  EXPECT_TRUE(file.good()) << name;
  return nlohmann::json::parse(file);
}

TokenizerSpec small_spec(const nlohmann::json& fixture, const std::string& pre) {
  TokenizerSpec spec;
  spec.place = "small";
  spec.model = "gpt2";
  spec.pre = pre;
  spec.tokens = fixture["tokens"].get<std::vector<std::string>>();
  spec.merges = fixture["merges"].get<std::vector<std::string>>();
  return spec;
}

// All bytes, and the merges that "hello" needs.
TokenizerSpec byte_spec() {
  TokenizerSpec spec;
  spec.place = "bytes.gguf";
  spec.model = "gpt2";
  spec.pre = "smollm";
  for (int b = 0; b < 256; ++b) {
    const uint32_t letter = letter_of_byte(static_cast<uint8_t>(b));
    std::string name;
    if (letter < 128) {
      name.push_back(static_cast<char>(letter));
    } else {
      name.push_back(static_cast<char>(0xC0 | letter >> 6));
      name.push_back(static_cast<char>(0x80 | (letter & 63)));
    }
    spec.tokens.push_back(name);
  }
  for (const char* token : {"he", "ll", "hell", "hello", "<|end|>", "<|end|>x", "<tool>"}) spec.tokens.push_back(token);
  spec.merges = {"h e", "l l", "he ll", "hell o"};
  spec.types.assign(spec.tokens.size(), TokenType::normal);
  spec.types[260] = spec.types[261] = TokenType::control;
  spec.types[262] = TokenType::user_defined;
  spec.eos = 260;
  return spec;
}

TokenizerSpec piece_spec() {
  TokenizerSpec spec;
  spec.place = "pieces.gguf";
  spec.model = "llama";
  spec.tokens = {"<unk>", "<s>", "</s>"};
  spec.types = {TokenType::unknown, TokenType::control, TokenType::control};
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    spec.tokens.push_back(name);
    spec.types.push_back(TokenType::byte);
  }
  spec.scores.assign(spec.tokens.size(), 0);
  const std::pair<const char*, float> pieces[] = {{"▁", -1}, {"a", -2}, {"b", -3}, {"ab", -4}, {"▁a", -5}, {"▁ab", -6}, {"aa", -7}};
  for (const auto& [name, score] : pieces) {
    spec.tokens.push_back(name);
    spec.scores.push_back(score);
    spec.types.push_back(TokenType::normal);
  }
  spec.bos = 1, spec.eos = 2, spec.unknown = 0, spec.add_bos = true;
  return spec;
}

std::vector<std::string> names(const Tokenizer& tokenizer, const std::vector<int>& ids) {
  std::vector<std::string> out;
  for (const int id : ids) out.push_back(tokenizer.name(id));
  return out;
}

using Names = std::vector<std::string>;

TEST(Tokenizer, EveryPreTokenizerGivesTheReferencesIds) {
  const auto fixture = golden("tokenizer_small.json");
  ASSERT_GE(fixture["ids"].size(), 7u);
  for (const auto& [pre, ids] : fixture["ids"].items()) {
    const Tokenizer tokenizer(small_spec(fixture, pre));
    for (size_t i = 0; i < fixture["texts"].size(); ++i) {
      const auto text = fixture["texts"][i].get<std::string>();
      EXPECT_EQ(tokenizer.encode(text), ids[i].get<std::vector<int>>()) << pre << ": " << text;
    }
  }
}

TEST(Tokenizer, DecodingUndoesEncodingForAllBytes) {
  const Tokenizer tokenizer(byte_spec());
  std::string text;
  for (int i = 0; i < 2000; ++i) text.push_back(static_cast<char>(i * 37 % 256));  // mostly invalid UTF-8
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("")), "");
}

TEST(Tokenizer, LongAndShortPreTokensMergeAlike) {
  const Tokenizer tokenizer(byte_spec());
  std::string text;
  for (int i = 0; i < 200; ++i) text += "hello";
  const auto ids = tokenizer.encode(text);
  ASSERT_EQ(ids.size(), 200u);
  for (const int id : ids) EXPECT_EQ(tokenizer.name(id), "hello");
}

TEST(Tokenizer, HugePreTokenTakesNoQuadraticTime) {
  const Tokenizer tokenizer(byte_spec());
  const std::string text(4'000'000, 'l');
  EXPECT_EQ(tokenizer.encode(text).size(), text.size() / 2);
}

TEST(Tokenizer, SpecialTokensCountOnlyWhereAsked) {
  const Tokenizer tokenizer(byte_spec());
  EXPECT_EQ(names(tokenizer, tokenizer.encode_special("hello<|end|><|end|>xhello", false)),
            (Names{"hello", "<|end|>", "<|end|>x", "hello"}));
  const auto plain = tokenizer.encode("<|end|>");
  EXPECT_EQ(plain.size(), 7u);
  for (const int id : plain) EXPECT_FALSE(tokenizer.is_control(id));
  // user-defined tokens are part of the text itself
  EXPECT_EQ(names(tokenizer, tokenizer.encode("hello<tool>")), (Names{"hello", "<tool>"}));
}

TEST(Tokenizer, ControlTokensAreSilentUnlessAskedFor) {
  const Tokenizer tokenizer(byte_spec());
  const auto ids = tokenizer.encode_special("hello<|end|>", false);
  EXPECT_EQ(tokenizer.decode(ids), "hello");
  EXPECT_EQ(tokenizer.decode(ids, true), "hello<|end|>");
  EXPECT_EQ(tokenizer.piece(260), "");
  EXPECT_TRUE(tokenizer.is_control(260) && tokenizer.is_end(260));
  EXPECT_FALSE(tokenizer.is_end(0) || tokenizer.is_end(-1) || tokenizer.is_end(1 << 30));
}

TEST(Tokenizer, UserDefinedEndTokenCannotBeSpelledInPlainText) {
  TokenizerSpec spec = byte_spec();
  spec.eos = -1;
  spec.types[260] = TokenType::user_defined;
  const Tokenizer tokenizer(std::move(spec));
  EXPECT_EQ(tokenizer.encode("<|end|>").size(), 7u);
  EXPECT_EQ(tokenizer.encode_special("<|end|>", false), std::vector<int>{260});
  EXPECT_TRUE(tokenizer.is_end(260));
}

TEST(Tokenizer, SentencePieceMergesByScoreAndFallsBackToBytes) {
  const Tokenizer tokenizer(piece_spec());
  EXPECT_EQ(names(tokenizer, tokenizer.encode("ab b")), (Names{"▁ab", "▁", "b"}));
  EXPECT_EQ(names(tokenizer, tokenizer.encode("aaa")), (Names{"▁a", "aa"}));
  EXPECT_EQ(names(tokenizer, tokenizer.encode("é")), (Names{"▁", "<0xC3>", "<0xA9>"}));
  EXPECT_EQ(names(tokenizer, tokenizer.encode_special("a<s>b", true)), (Names{"<s>", "▁a", "<s>", "▁", "b"}));
  EXPECT_EQ(tokenizer.encode("<s>").size(), 4u);     // the space and three bytes
  EXPECT_EQ(tokenizer.encode("<0x41>").size(), 7u);  // the name of a byte token is no byte
  for (const char* text : {"ab b", "é \xFF", "", " a", "\n"}) EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

void expect_refused(TokenizerSpec spec, const std::string& part) {
  try {
    const Tokenizer tokenizer(std::move(spec));
    FAIL() << "accepted; expected: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::refused);
    EXPECT_NE(error.text().find(part), std::string::npos) << error.text();
    EXPECT_NE(error.text().find(".gguf"), std::string::npos) << error.text();
  }
}

TEST(Tokenizer, BrokenVocabulariesAreRefusedByName) {
  const auto with = [](auto change, TokenizerSpec spec = byte_spec()) {
    change(spec);
    return spec;
  };
  expect_refused(with([](auto& s) { s.pre = "default"; }), "unknown pre-tokenizer 'default'");
  expect_refused(with([](auto& s) { s.model = "rwkv"; }), "unknown tokenizer model 'rwkv'");
  expect_refused(with([](auto& s) { s.tokens.clear(), s.types.clear(), s.eos = -1; }), "no tokens");
  expect_refused(with([](auto& s) { s.eos = 263; }), "eos token 263");
  expect_refused(with([](auto& s) { s.bos = -2; }), "bos token -2");
  expect_refused(with([](auto& s) { s.types.pop_back(); }), "token types");
  expect_refused(with([](auto& s) { s.types[3] = static_cast<TokenType>(9); }), "unknown type 9");
  expect_refused(with([](auto& s) { s.merges.push_back("h x"); }), "unknown token");
  expect_refused(with([](auto& s) { s.merges.push_back("hello"); }), "not two tokens");
  expect_refused(with([](auto& s) { s.merges.push_back("h "); }), "not two tokens");
  expect_refused(with([](auto& s) { s.scores.pop_back(); }, piece_spec()), "scores");
  expect_refused(with([](auto& s) { s.scores[5] = std::numeric_limits<float>::quiet_NaN(); }, piece_spec()), "not a number");
  expect_refused(with([](auto& s) { s.tokens[10] = "zz", s.unknown = -1; }, piece_spec()), "byte tokens");
}

TEST(Tokenizer, OddVocabulariesAreHarmless) {
  TokenizerSpec spec = byte_spec();
  spec.tokens.insert(spec.tokens.end(), {"", "<", "hello", std::string(1024, 'y')});  // empty, prefix of others, twice, long
  spec.types.insert(spec.types.end(), {TokenType::control, TokenType::user_defined, TokenType::normal, TokenType::control});
  spec.merges.push_back("h e");
  const Tokenizer tokenizer(std::move(spec));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode_special("hello <|end|> <<", false), true), "hello <|end|> <<");
  EXPECT_EQ(tokenizer.find(""), -1);
}

TEST(Utf8Stream, NeverShowsHalfACharacter) {
  Utf8Stream stream;
  const std::string text = "é😀ﬀ";
  std::string shown;
  for (const char c : text) {
    const std::string part = stream.push(std::string_view(&c, 1));
    EXPECT_TRUE(part.empty() || part.size() >= 2);
    shown += part;
  }
  EXPECT_EQ(shown + stream.finish(), text);
}

TEST(Utf8Stream, BrokenBytesBecomeReplacementCharacters) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xFF"
                        "b"),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(stream.push("\xE2\x82"), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.push("\xED\xA0"), "\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate can never become valid
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace fettle
