// tokenizer.json's normalizers, pre-tokenizers and decoders as steps. Names and defaults are Hugging Face tokenizers'.
#include <array>

#include "base/base.h"
#include "text/regexes.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

namespace fettle::tokenizer_json {
namespace {

using Normal = NormalStep::Kind;
using Split = SplitStep::Kind;
using Behavior = SplitStep::Behavior;

std::string base64_bytes(const Node& node, const std::string& text) {
  std::string out;
  uint32_t bits = 0;
  int n = 0;
  for (const char c : text) {
    if (c == '=') break;
    const size_t digit = std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/").find(c);
    if (digit == std::string_view::npos) node.bad("the character map is not in base 64");
    bits = bits << 6 | static_cast<uint32_t>(digit);
    n += 6;
    if (n >= 8) out += static_cast<char>(bits >> (n -= 8));
  }
  return out;
}

void read_bert_normalizer(const Node& node, std::vector<NormalStep>& steps) {
  const bool lowercase = node.flag("lowercase", true);
  if (node.flag("clean_text", true)) steps.push_back({.kind = Normal::clean});
  if (node.flag("handle_chinese_chars", true)) steps.push_back({.kind = Normal::space_cjk});
  if (node.flag("strip_accents", lowercase)) {
    steps.push_back({.kind = Normal::nfd});
    steps.push_back({.kind = Normal::strip_nonspacing});
  }
  if (lowercase) steps.push_back({.kind = Normal::lowercase});
}

Behavior behavior_of(const Node& node) {
  const std::string name = node.text("behavior", "Isolated");
  constexpr std::pair<std::string_view, Behavior> known[] = {{"Isolated", Behavior::isolated},
                                                             {"Removed", Behavior::removed},
                                                             {"MergedWithPrevious", Behavior::with_previous},
                                                             {"MergedWithNext", Behavior::with_next},
                                                             {"Contiguous", Behavior::contiguous}};
  for (const auto& [text, behavior] : known) {
    if (text == name) return behavior;
  }
  node.unknown("behavior '" + name + "'");
}

SplitStep::Prefix prefix_of(const Node& node) {
  const std::string name = node.text("prepend_scheme", node.flag("add_prefix_space", true) ? "always" : "never");
  if (name == "always") return SplitStep::Prefix::always;
  if (name == "first") return SplitStep::Prefix::first;
  if (name == "never") return SplitStep::Prefix::never;
  node.unknown("prepend_scheme '" + name + "'");
}

constexpr std::string_view kScripts =
    "Inherited Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki "
    "Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Coptic "
    "Cuneiform Cypriot Cyrillic Deseret Devanagari Duployan Egyptian_Hieroglyphs Elbasan Ethiopic Georgian Glagolitic Gothic "
    "Grantha Greek Gujarati Gurmukhi Hangul Hanunoo Hatran Hebrew Imperial_Aramaic Inscriptional_Pahlavi "
    "Inscriptional_Parthian Javanese Kaithi Kannada Kayah_Li Kharoshthi Khmer Khojki Khudawadi Lao Latin Lepcha Limbu "
    "Linear_A Linear_B Lisu Lycian Lydian Mahajani Malayalam Mandaic Manichaean Marchen Meetei_Mayek Mende_Kikakui "
    "Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean New_Tai_Lue Newa Nko Ogham "
    "Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_South_Arabian Old_Turkic Oriya Osage "
    "Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada "
    "Shavian Siddham SignWriting Sinhala Sora_Sompeng Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet "
    "Takri Tamil Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Ugaritic Vai Warang_Citi Yi ";

// A run of one script, with spaces and unassigned characters inside of it and behind it; Japanese kana count as Chinese characters.
std::string script_regex() {
  const std::string kana = R"(\p{Han}\p{Hiragana}\p{Katakana}ー)";
  std::string all = "[" + kana + "][" + kana + R"( \p{Cn}]*|[\p{Common}&&[^ ー]](?:[\p{Common}&&[^ ー]]|[ \p{Cn}])*)";
  for (size_t at = 0; at < kScripts.size();) {
    const size_t end = kScripts.find(' ', at);
    const std::string one = "\\p{" + std::string(kScripts.substr(at, end - at)) + "}";
    all += "|" + one + "(?:" + one + R"(|[ \p{Cn}])*)";
    at = end + 1;
  }
  return all;
}

void read_byte_level(const Node& node, std::vector<SplitStep>& steps) {
  if (node.flag("add_prefix_space", true)) steps.push_back({.kind = Split::prefix_space});
  if (node.flag("use_regex", true)) steps.push_back({.kind = Split::pattern, .pattern = {std::string(kGpt2Regex), true}});
  steps.push_back({.kind = Split::letters});
}

void read_metaspace(const Node& node, std::vector<SplitStep>& steps) {
  if (const std::string by = node.text("replacement"); by.empty() || decode_character(by).n_bytes != by.size()) {
    node.bad("'replacement' is not one character");
  }
  steps.push_back(
      {.kind = Split::spaces_to, .text = node.text("replacement"), .prefix = prefix_of(node), .split = node.flag("split", true)});
}

}  // namespace

void read_normalizer(const Node& node, std::vector<NormalStep>& steps) {
  const std::string type = node.type();
  constexpr std::pair<std::string_view, Normal> plain[] = {{"NFC", Normal::nfc},
                                                           {"NFD", Normal::nfd},
                                                           {"NFKC", Normal::nfkc},
                                                           {"NFKD", Normal::nfkd},
                                                           {"Lowercase", Normal::lowercase},
                                                           {"StripAccents", Normal::strip_marks},
                                                           {"Nmt", Normal::nmt},
                                                           {"ByteLevel", Normal::letters}};
  for (const auto& [name, kind] : plain) {
    if (name == type) return steps.push_back({.kind = kind});
  }
  if (type == "Sequence") {
    for (const Node& inner : node.nodes("normalizers")) read_normalizer(inner, steps);
  } else if (type == "Strip") {
    steps.push_back({.kind = Normal::strip, .left = node.flag("strip_left", true), .right = node.flag("strip_right", true)});
  } else if (type == "Replace") {
    steps.push_back({.kind = Normal::replace, .pattern = node.pattern("pattern"), .text = node.text("content")});
  } else if (type == "Prepend") {
    steps.push_back({.kind = Normal::prepend, .text = node.text("prepend")});
  } else if (type == "Append") {
    steps.push_back({.kind = Normal::append, .text = node.text("append")});
  } else if (type == "BertNormalizer") {
    read_bert_normalizer(node, steps);
  } else if (type == "Precompiled") {
    if (node.has("precompiled_charsmap")) {
      steps.push_back({.kind = Normal::charsmap, .text = base64_bytes(node, node.text("precompiled_charsmap"))});
    }
  } else {
    node.unknown("normalizer '" + type + "'");
  }
}

void read_pre_tokenizer(const Node& node, std::vector<SplitStep>& steps) {
  const std::string type = node.type();
  if (type == "Sequence") {
    for (const Node& inner : node.nodes("pretokenizers")) read_pre_tokenizer(inner, steps);
  } else if (type == "ByteLevel") {
    read_byte_level(node, steps);
  } else if (type == "Split") {
    steps.push_back(
        {.kind = Split::pattern, .pattern = node.pattern("pattern"), .behavior = behavior_of(node), .invert = node.flag("invert", false)});
  } else if (type == "Digits") {
    const bool single = node.flag("individual_digits", false);
    steps.push_back({.kind = Split::numbers, .behavior = single ? Behavior::isolated : Behavior::contiguous});
  } else if (type == "Punctuation") {
    steps.push_back({.kind = Split::punctuation, .behavior = behavior_of(node)});
  } else if (type == "Whitespace") {
    steps.push_back({.kind = Split::words, .behavior = Behavior::removed, .invert = true});
  } else if (type == "WhitespaceSplit") {
    steps.push_back({.kind = Split::white_space, .behavior = Behavior::removed});
  } else if (type == "Metaspace") {
    read_metaspace(node, steps);
  } else if (type == "BertPreTokenizer") {
    steps.push_back({.kind = Split::white_space, .behavior = Behavior::removed});
    steps.push_back({.kind = Split::punctuation});
  } else if (type == "CharDelimiterSplit") {
    steps.push_back({.kind = Split::pattern, .pattern = {node.text("delimiter"), false}, .behavior = Behavior::removed});
  } else if (type == "UnicodeScripts") {
    steps.push_back({.kind = Split::pattern, .pattern = {script_regex(), true}, .behavior = Behavior::removed, .invert = true});
  } else if (type == "FixedLength") {
    const size_t n = node.has("length") ? node.count("length") : 5;
    if (n == 0) node.bad("pieces of no length");
    steps.push_back({.kind = Split::n_characters, .n = n});
  } else {
    node.unknown("pre-tokenizer '" + type + "'");
  }
}

void read_decoder(const Node& node, std::vector<DecodeStep>& steps) {
  using Kind = DecodeStep::Kind;
  const std::string type = node.type();
  if (type == "Sequence") {
    for (const Node& inner : node.nodes("decoders")) read_decoder(inner, steps);
  } else if (type == "ByteLevel") {
    steps.push_back({.kind = Kind::letters});
  } else if (type == "Metaspace") {
    steps.push_back({.kind = Kind::spaces_from, .text = node.text("replacement"), .first = prefix_of(node) != SplitStep::Prefix::never});
  } else if (type == "ByteFallback") {
    steps.push_back({.kind = Kind::bytes});
  } else if (type == "Fuse") {
    steps.push_back({.kind = Kind::fuse});
  } else if (type == "Strip") {
    steps.push_back({.kind = Kind::strip, .text = node.text("content"), .start = node.count("start"), .stop = node.count("stop")});
  } else if (type == "Replace") {
    steps.push_back({.kind = Kind::replace, .pattern = node.pattern("pattern"), .text = node.text("content")});
  } else if (type == "WordPiece") {
    steps.push_back({.kind = Kind::word_piece, .text = node.text("prefix", "##")});
    if (node.flag("cleanup", true)) steps.push_back({.kind = Kind::cleanup});
  } else if (type == "BPEDecoder") {
    steps.push_back({.kind = Kind::word_ends, .text = node.text("suffix", "</w>")});
  } else if (type == "CTC") {
    steps.push_back({.kind = Kind::ctc,
                     .text = node.text("pad_token", "<pad>"),
                     .delimiter = node.text("word_delimiter_token", "|"),
                     .first = node.flag("cleanup", true)});
  } else {
    node.unknown("decoder '" + type + "'");
  }
}

}  // namespace fettle::tokenizer_json
