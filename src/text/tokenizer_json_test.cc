// tokenizer.json against Hugging Face's tokenizers: every component, on texts that are hard to cut up (make_tokenizer_json_golden.py).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
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

std::string base64(const std::string& text) {
  std::string out;
  uint32_t bits = 0;
  int n = 0;
  for (const char c : text) {
    const size_t digit = std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/").find(c);
    if (digit == std::string_view::npos) break;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if ((n += 6) >= 8) out += static_cast<char>(bits >> (n -= 8));
  }
  return out;
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

// A model's own file, named by FETTLE_TOKENIZER, against ids that make_tokenizer_json_golden.py made of it (FETTLE_TOKENIZER_IDS).
TEST(TokenizerJson, AModelsOwnFileGivesTheReferencesIds) {
  const char *file = std::getenv("FETTLE_TOKENIZER"), *ids = std::getenv("FETTLE_TOKENIZER_IDS");
  if (file == nullptr || ids == nullptr) GTEST_SKIP() << "FETTLE_TOKENIZER names no file";
  const auto text_of = [](const char* path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const Tokenizer tokenizer(read_tokenizer_json(text_of(file), file));
  const Json fixture = Json::parse(text_of(ids));
  for (size_t i = 0; i < fixture["texts"].size(); ++i) {
    const auto text = fixture["texts"][i].get<std::string>();
    const auto expected = fixture["ids"][i].get<std::vector<int>>();
    EXPECT_EQ(tokenizer.encode_special(text, true), expected) << text;
    EXPECT_EQ(shown(tokenizer.decode(expected)), fixture["decoded"][i].get<std::string>());
  }
}

// A unigram model in GGUF's terms, with SentencePiece's own character map, prefix and merging of spaces.
TEST(TokenizerJson, UnigramInGgufGivesSentencePiecesIds) {
  const Json& model = golden()["sentencepiece"];
  TokenizerSpec spec;
  spec.place = "unigram.gguf";
  spec.model = "t5";
  spec.tokens = model["tokens"].get<std::vector<std::string>>();
  spec.scores = model["scores"].get<std::vector<double>>();
  for (const int type : model["types"].get<std::vector<int>>()) spec.types.push_back(static_cast<TokenType>(type));
  spec.unknown = 0;
  spec.merge_spaces = true;
  spec.charsmap = base64(model["charsmap"].get<std::string>());
  const Tokenizer tokenizer(spec);
  for (size_t i = 0; i < model["texts"].size(); ++i) {
    const auto text = model["texts"][i].get<std::string>();
    EXPECT_EQ(tokenizer.encode(text), model["ids"][i].get<std::vector<int>>()) << text;
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("The kettle hums")), "The kettle hums");
}

// A small file to be broken, one change at a time.
Json small_file() {
  return Json::parse(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<s>": 3}, "merges": ["a b"]},
    "added_tokens": [{"id": 3, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
      "special_tokens": {"<s>": {"ids": [3]}}}})");
}

std::string refusal(const std::string& text) {
  try {
    const Tokenizer tokenizer(read_tokenizer_json(text, "t.json"));
    (void)tokenizer.encode_special("ab <s> aaaa", true);
    return "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::refused);
    return error.text();
  }
}

void expect_refused(const std::string& part, const std::function<void(Json&)>& change) {
  Json file = small_file();
  change(file);
  const std::string text = refusal(file.dump(-1, ' ', false, Json::error_handler_t::ignore));
  EXPECT_NE(text.find(part), std::string::npos) << text << "\nexpected: " << part;
  EXPECT_TRUE(text.starts_with("t.json")) << text;
}

TEST(TokenizerJson, BrokenFilesAreRefusedByName) {
  ASSERT_EQ(refusal(small_file().dump()), "accepted");
  for (const char* text :
       {"", "{", "[]", "null", "7", "{\"model\": 1}", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\ud800\":0}}}", "\xFF"}) {
    EXPECT_TRUE(refusal(text).starts_with("t.json: ")) << text << ": " << refusal(text);
  }
  EXPECT_NE(refusal(std::string(100000, '[')).find("no JSON that can be read"), std::string::npos);
  expect_refused("'model' is missing", [](Json& f) { f.erase("model"); });
  expect_refused("model: unknown model 'Neural'", [](Json& f) { f["model"]["type"] = "Neural"; });
  expect_refused("'vocab' is not an object", [](Json& f) { f["model"]["vocab"] = 1; });
  expect_refused("the vocabulary is empty", [](Json& f) { f["model"]["vocab"] = Json::object(), f["model"]["merges"] = Json::array(); });
  expect_refused("'a' has the id 16000000, but there are only 4 tokens", [](Json& f) { f["model"]["vocab"]["a"] = 16000000; });
  expect_refused("the id of token 'a' is no number", [](Json& f) { f["model"]["vocab"]["a"] = -1; });
  expect_refused("the id of token 'a' is no number", [](Json& f) { f["model"]["vocab"]["a"] = 1.5; });
  expect_refused("both have the id 1", [](Json& f) { f["model"]["vocab"]["a"] = 1; });
  expect_refused("both have the id 1", [](Json& f) { f["added_tokens"][0]["id"] = 1; });
  expect_refused("far beyond the vocabulary", [](Json& f) { f["added_tokens"][0]["id"] = 4000000000; });
  expect_refused("'id' is no count", [](Json& f) { f["added_tokens"][0]["id"] = -5; });
  expect_refused("'merges' is missing", [](Json& f) { f["model"].erase("merges"); });
  expect_refused("merge 0 is not two tokens", [](Json& f) { f["model"]["merges"][0] = 7; });
  expect_refused("merge 0 is not two tokens", [](Json& f) { f["model"]["merges"][0] = "ab"; });
  expect_refused("merge 0 is not two tokens", [](Json& f) { f["model"]["merges"][0] = {"a", "b", "c"}; });
  expect_refused("merge 0 names an unknown token", [](Json& f) { f["model"]["merges"][0] = {"a", "x"}; });
  expect_refused("the unknown token '<unk>' is not in the vocabulary", [](Json& f) { f["model"]["unk_token"] = "<unk>"; });
  expect_refused("unknown normalizer 'Latin'", [](Json& f) { f["normalizer"]["type"] = "Latin"; });
  expect_refused("normalizer: 'normalizers' is missing", [](Json& f) { f["normalizer"]["type"] = "Sequence"; });
  expect_refused("unknown pre-tokenizer 'Guess'", [](Json& f) { f["pre_tokenizer"]["type"] = "Guess"; });
  expect_refused("unknown behavior 'Kept'", [](Json& f) { f["pre_tokenizer"] = {{"type", "Punctuation"}, {"behavior", "Kept"}}; });
  expect_refused("pieces of no length", [](Json& f) { f["pre_tokenizer"] = {{"type", "FixedLength"}, {"length", 0}}; });
  expect_refused("unknown decoder 'Guess'", [](Json& f) { f["decoder"]["type"] = "Guess"; });
  expect_refused("unknown post-processor 'Guess'", [](Json& f) { f["post_processor"]["type"] = "Guess"; });
  expect_refused("token 9 does not exist", [](Json& f) { f["post_processor"]["special_tokens"]["<s>"]["ids"] = {9}; });
  expect_refused("no place for the text", [](Json& f) { f["post_processor"]["single"].erase(1); });
  expect_refused("special token 4 has a name of 5000 bytes", [](Json& f) {
    f["added_tokens"].push_back({{"id", 4}, {"content", std::string(5000, 'x')}});
  });
  expect_refused("not in base 64", [](Json& f) { f["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "%%"}}; });
  for (const char* map : {"AA==", "BAAAAA==", "/////w==", "AwAAAAAAAAA="}) {
    expect_refused("cut off or broken", [&](Json& f) { f["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", map}}; });
  }
}

// A list of `n` steps "a" -> `by`.
Json replacements(int n, const std::string& by) {
  Json steps = Json::array();
  for (int i = 0; i < n; ++i) steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", by}});
  return steps;
}

// What a few lines of a file can ask for without end: texts that are doubled again and again, steps inside of steps.
TEST(TokenizerJson, RulesThatGrowWithoutEndAreRefused) {
  const auto sequence = [](const char* parts, Json steps) { return Json{{"type", "Sequence"}, {parts, std::move(steps)}}; };
  const auto repeated = [](int n, const Json& step) { return Json(std::vector<Json>(size_t(n), step)); };
  expect_refused("many times as long", [&](Json& f) { f["normalizer"] = sequence("normalizers", replacements(40, "aa")); });
  expect_refused("many times as long", [&](Json& f) { f["normalizer"] = replacements(1, std::string(100000, 'a'))[0]; });
  expect_refused("many times as long", [&](Json& f) { f["normalizer"] = sequence("normalizers", repeated(40, {{"type", "ByteLevel"}})); });
  expect_refused("many times as long", [&](Json& f) { f["decoder"] = sequence("decoders", replacements(40, "aa")); });
  expect_refused("many times as long", [&](Json& f) {
    f["pre_tokenizer"] = sequence("pretokenizers", repeated(5, {{"type", "ByteLevel"}}));
  });
  const Json digits = {{"type", "Digits"}}, fuse = {{"type", "Fuse"}}, nfc = {{"type", "NFC"}};
  expect_refused("10000 rules", [&](Json& f) { f["pre_tokenizer"] = sequence("pretokenizers", repeated(10000, digits)); });
  expect_refused("10000 rules", [&](Json& f) { f["normalizer"] = sequence("normalizers", repeated(10000, nfc)); });
  expect_refused("10000 rules", [&](Json& f) { f["decoder"] = sequence("decoders", repeated(10000, fuse)); });
  expect_refused("'replacement' is not one character", [](Json& f) {
    f["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", std::string(1000, '_')}};
  });
  expect_refused("prefix or suffix", [](Json& f) { f["model"]["continuing_subword_prefix"] = std::string(100000, '#'); });
  expect_refused("1001 parts", [&](Json& f) { f["post_processor"]["single"] = repeated(1001, f["post_processor"]["single"][0]); });

  Json file = small_file();  // a token's text is made when the file is opened, an answer's when it is read
  file["decoder"] = sequence("decoders", replacements(1, "aa"));
  file["decoder"]["decoders"].insert(file["decoder"]["decoders"].begin(), fuse);
  for (int i = 0; i < 40; ++i) file["decoder"]["decoders"].push_back(file["decoder"]["decoders"][1]);
  const Tokenizer tokenizer(read_tokenizer_json(file.dump(), "t.json"));
  EXPECT_THROW((void)tokenizer.decode(std::vector<int>{0, 0}), Error);
}

Json split_by(const std::string& regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

TEST(TokenizerJson, RegexesThatCannotBeReadOrTakeTooLongAreRefused) {
  for (const char* regex :
       {"(", ")", "[", "[a", "a{2", "*", "\\", "\\p{Nothing}", "\\p", "(?<=a*)b", "[[:alpha:]", "(?P<x", "\\x{110000}", "[z-a]"}) {
    Json file = small_file();
    file["pre_tokenizer"] = split_by(regex);
    const std::string text = refusal(file.dump());
    if (std::string(regex) != "a{2") {
      EXPECT_NE(text.find("the regular expression '"), std::string::npos) << regex << ": " << text;
    }
  }
  Json file = small_file();
  file["pre_tokenizer"] = split_by(std::string(70000, 'a'));
  EXPECT_NE(refusal(file.dump()).find("longer than 64 KiB"), std::string::npos);
  file["pre_tokenizer"] = split_by("(a+)+$");
  const Tokenizer tokenizer(read_tokenizer_json(file.dump(), "t.json"));
  EXPECT_THROW((void)tokenizer.encode(std::string(100, 'a') + "b"), Error);
}

// Megabytes of one letter, of spaces, of combining marks, of digits: all through the patterns and normalizers that look ahead the most.
TEST(TokenizerJson, HostileTextsTakeNoQuadraticTime) {
  std::vector<std::string> texts{std::string(2 << 20, 'a'), std::string(2 << 20, ' '), std::string(1 << 20, '7'), {}, {}, {}};
  for (int i = 0; i < 1 << 19; ++i) texts[3] += "\u0301", texts[4] += "a\n", texts[5] += "\xFF";
  for (const char* regex : {R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})))", R"(\s+(?!\S)|\s+)", "a*b", R"((?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+)"}) {
    Json file = small_file();
    file["normalizer"] = {{"type", "Sequence"},
                          {"normalizers", {{{"type", "NFD"}}, {{"type", "Strip"}}, {{"type", "NFKC"}}, {{"type", "StripAccents"}}}}};
    file["pre_tokenizer"] = split_by(regex);
    file["model"]["byte_fallback"] = true;
    const Tokenizer tokenizer(read_tokenizer_json(file.dump(), "t.json"));
    for (const std::string& text : texts) (void)tokenizer.encode(text);
  }
}

}  // namespace
}  // namespace fettle
