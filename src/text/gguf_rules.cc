// The names are llama.cpp's; the regexes are those of the models' own tokenizer.json files as far as these are known, else what llama.cpp
// reads them as. Each cuts what the one before it left whole. Not handled: "default" (a guess), and what is no list of regexes.
#include "text/gguf_rules.h"

#include <algorithm>
#include <array>

#include "base/base.h"
#include "text/regexes.h"

namespace fettle {
namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";
constexpr std::string_view kNumbers = "\\p{N}";  // every number apart: Digits, in a tokenizer.json

struct Pre {
  std::string_view names;  // with a space behind each
  std::array<std::string_view, 6> regexes;
  bool ignore_merges = false;
  bool begin = false;       // files that do not say want a begin token
  bool characters = false;  // names are text, not bytes as letters; spaces are U+2581
};

constexpr std::string_view kCjk = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kDeepSeek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";

constexpr Pre kPre[] = {
    {"gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat a.x-4.0 mellum exaone4 modern-bert jina-es jina-de jina-v1-en jina-v2-es "
     "jina-v2-de jina-v2-code roberta-bpe ",
     {kGpt2Regex}},
    {"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 ", {kNumbers, kGpt2Regex}},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ", {kLlama3Regex}, true, true},
    {"dbrx smaug-bpe glm4 chatglm-bpe ", {kLlama3Regex}},
    {"qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2 ", {kQwen2Regex}},
    {"qwen35 ", {kQwen35Regex}},
    {"tekken ", {kTekkenRegex}, true, true},
    {"gpt-4o llama4 kanana2 talkie minimax-m2 ", {kO200kRegex}},
    {"granite-embed-multi-97m ", {kO200kRegex}, true},
    {"tiny_aya cohere2moe ", {R"(\d{1,3}(?=(?:\d{3})*\b))", kO200kRegex}},
    {"jais-2 ",
     {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|)"
      R"(\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})"}},
    {"deepseek-coder ", {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", kNumbers}},
    {"deepseek-llm ",
     {"[\r\n]", R"(\s?[\p{Lu}\p{Ll}\p{Lt}]+)", "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", "[一-龥ࠀ-一가-퟿]+", "\\p{N}+"}},
    {"deepseek-v3 hunyuan-dense joyai-llm ", {R"(\p{N}{1,3})", kCjk, kDeepSeek3}},
    {"youtu ",
     {"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
      R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     true},
    {"falcon ", {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Regex, "[0-9][0-9][0-9]"}},
    {"poro-chat bloom gpt3-finnish ", {kBloom}},
    {"viking ", {kBloom, kNumbers}},
    {"chameleon ",
     {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", kNumbers, R"([\p{P}!-/:-@\[-`{-~])", kGpt2Regex},
     false,
     true},
    {"kimi-k2 ",
     {R"([\p{Han}]+|)"
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
      R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
    {"superbpe ", {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"}},
    {"bailingmoe bailingmoe2 llada-moe ",
     {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"}},
    {"seed-coder ", {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
    {"afmoe ",
     {R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})))",
      "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+", kDeepSeek3}},
    {"laguna ", {"[^\\n]+|[\\n]+", kQwen2Regex}},
    {"exaone-moe ",
     {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|)"
      R"(\s+(?!\S)|\s+)"}},
    {"minicpm5 ",
     {R"(\p{N}{1,3})",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     true},
    {"gemma4 granite-embed-multi-311m ", {"[^\\n]+|[\\n]+"}, true, false, true},
    {"sarvam-moe ", {"[^\\n]+|[\\n]+"}, false, false, true},
};

const Pre* find_pre(std::string_view name) {
  if (name.empty() || name.find(' ') != std::string_view::npos) return nullptr;
  for (const Pre& pre : kPre) {
    for (size_t at = 0; (at = pre.names.find(name, at)) != std::string_view::npos; at += name.size()) {
      if ((at == 0 || pre.names[at - 1] == ' ') && pre.names[at + name.size()] == ' ') return &pre;
    }
  }
  return nullptr;
}

std::vector<SplitStep> steps_of(const Pre& pre) {
  std::vector<SplitStep> steps;
  for (const std::string_view regex : pre.regexes) {
    if (regex == kNumbers) {
      steps.push_back({.kind = SplitStep::Kind::numbers});
    } else if (!regex.empty()) {
      steps.push_back({.kind = SplitStep::Kind::pattern, .pattern = {std::string(regex), true}});
    }
  }
  if (!pre.characters) steps.push_back({.kind = SplitStep::Kind::letters});
  return steps;
}

TokenRules byte_pair_rules(const TokenizerSpec& spec) {
  const Pre* pre = find_pre(spec.pre);
  if (pre == nullptr) {
    throw refused(spec.place, "unknown pre-tokenizer '" + spec.pre + "'",
                  "its splitting rule is not known to this version; guessing would change what the model reads");
  }
  TokenRules rules;
  rules.splits = steps_of(*pre);
  rules.model.ignore_merges = pre->ignore_merges;
  rules.model.byte_fallback = pre->characters;
  if (pre->characters) {
    rules.normalizer.push_back({.kind = NormalStep::Kind::replace, .pattern = {" ", false}, .text = std::string(kBlank)});
    rules.decoder.push_back({.kind = DecodeStep::Kind::spaces_from, .text = std::string(kBlank)});
  } else {
    rules.decoder.push_back({.kind = DecodeStep::Kind::letters});
  }
  return rules;
}

// "bert": names of tokens that begin a word carry U+2581, the others nothing.
TokenRules word_piece_rules(const TokenizerSpec& spec) {
  using N = NormalStep::Kind;
  TokenRules rules;
  rules.normalizer = {{.kind = N::clean}, {.kind = N::space_cjk}, {.kind = N::nfd}, {.kind = N::strip_nonspacing}, {.kind = N::lowercase}};
  rules.splits = {{.kind = SplitStep::Kind::white_space, .behavior = SplitStep::Behavior::removed}, {.kind = SplitStep::Kind::punctuation}};
  rules.model = {.kind = ModelRules::Kind::word_piece, .unknown = spec.unknown, .first = std::string(kBlank)};
  rules.decoder = {{.kind = DecodeStep::Kind::spaces_from, .text = std::string(kBlank)},
                   {.kind = DecodeStep::Kind::fuse},
                   {.kind = DecodeStep::Kind::cleanup},
                   {.kind = DecodeStep::Kind::strip, .text = " ", .start = 1}};
  return rules;
}

TokenRules unigram_rules(const TokenizerSpec& spec) {
  TokenRules rules;
  rules.normalizer = {{.kind = NormalStep::Kind::prefix_map, .text = spec.charsmap},
                      {.kind = NormalStep::Kind::spaces, .left = spec.add_space_prefix, .right = spec.merge_spaces}};
  rules.model = {.kind = ModelRules::Kind::unigram, .unknown = spec.unknown};
  rules.decoder = {{.kind = DecodeStep::Kind::spaces_from, .text = std::string(kBlank)}};
  return rules;
}

TokenRules sentence_piece_rules() {
  TokenRules rules;
  rules.model.kind = ModelRules::Kind::sentence_piece;
  rules.decoder = {{.kind = DecodeStep::Kind::spaces_from, .text = std::string(kBlank)}};
  return rules;
}

// A GGUF says which tokens are special by their types. Phi-3's swallow the white space behind them, but for three.
void add_special_tokens(const TokenizerSpec& spec, TokenRules& rules) {
  const auto has = [&](std::string_view name) { return std::find(spec.tokens.begin(), spec.tokens.end(), name) != spec.tokens.end(); };
  const bool phi3 = spec.model == "llama" && has("<|placeholder1|>") && has("<|assistant|>");
  for (size_t i = 0; i < spec.types.size(); ++i) {
    const TokenType type = spec.types[i];
    if (type != TokenType::user_defined && type != TokenType::control && type != TokenType::unknown) continue;
    const std::string& name = spec.tokens[i];
    AddedToken token{.id = static_cast<int>(i), .special = type != TokenType::user_defined};
    token.right = phi3 && name != "<unk>" && name != "<s>" && name != "<|endoftext|>";
    rules.added.push_back(token);
  }
}

}  // namespace

TokenRules rules_of_gguf(const TokenizerSpec& spec) {
  TokenRules rules;
  if (spec.model == "gpt2") {
    rules = byte_pair_rules(spec);
  } else if (spec.model == "llama") {
    rules = sentence_piece_rules();
  } else if (spec.model == "bert") {
    rules = word_piece_rules(spec);
  } else if (spec.model == "t5") {
    rules = unigram_rules(spec);
  } else {
    throw refused(spec.place, "unknown tokenizer model '" + spec.model + "'",
                  "fettle reads 'gpt2' (byte-level BPE), 'llama' (SentencePiece BPE), 'bert' (WordPiece) and 't5' (unigram)");
  }
  rules.by_pieces = spec.model != "bert";
  if (spec.add_bos && spec.bos >= 0) rules.begin.push_back(spec.bos);
  if (spec.add_eos && spec.eos >= 0) rules.end.push_back(spec.eos);
  add_special_tokens(spec, rules);
  return rules;
}

bool begins_by_itself(std::string_view pre) {
  const Pre* known = find_pre(pre);
  return known != nullptr && known->begin;
}

// Only where the steps say the same, so that a reader of the name cuts up every text alike; but for NFC, of which GGUF has no notion.
std::string gguf_name_of(const TokenRules& rules) {
  const bool nfc = rules.normalizer.size() == 1 && rules.normalizer[0].kind == NormalStep::Kind::nfc;
  if ((!rules.normalizer.empty() && !nfc) || rules.model.kind != ModelRules::Kind::bpe) return "";
  for (const Pre& pre : kPre) {
    const std::vector<SplitStep> steps = steps_of(pre);
    const bool same = !pre.characters && pre.ignore_merges == rules.model.ignore_merges &&
                      std::equal(steps.begin(), steps.end(), rules.splits.begin(), rules.splits.end(), [](const auto& a, const auto& b) {
                        const bool removed = b.behavior == SplitStep::Behavior::removed && b.invert;
                        return a.kind == b.kind && a.pattern.text == b.pattern.text && a.pattern.regex == b.pattern.regex &&
                               (a.kind == SplitStep::Kind::letters || b.behavior == SplitStep::Behavior::isolated || removed);
                      });
    if (same) return std::string(pre.names.substr(0, pre.names.find(' ')));
  }
  return "";
}

std::optional<PreTokenizerRegexes> pre_tokenizer_regexes(std::string_view name) {
  const Pre* pre = find_pre(name);
  if (pre == nullptr || pre->characters) return std::nullopt;
  PreTokenizerRegexes said{{}, pre->ignore_merges};
  for (const std::string_view regex : pre->regexes) {
    if (!regex.empty()) said.regexes.emplace_back(regex);
  }
  return said;
}

bool gguf_says_all(const TokenizerSpec& spec) {
  if (!spec.rules) return true;
  const auto plain = [](const AddedToken& t) { return !t.left && !t.right && !t.single_word; };
  const TokenRules& rules = *spec.rules;
  return spec.model == "gpt2" && !spec.pre.empty() && rules.normalizer.empty() && rules.model.inside.empty() &&
         rules.model.ending.empty() && rules.begin.size() <= 1 && rules.end.size() <= 1 &&
         std::all_of(rules.added.begin(), rules.added.end(), plain);
}

}  // namespace fettle
