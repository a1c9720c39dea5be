// The tokenizer's files of a Hugging Face folder. A tokenizer.json that came with the model goes out as it came in; else one is made of
// GGUF's vocabulary: every token, special ones too, stands in the model's vocabulary, so that each keeps its number.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/json_text.h"
#include "model/hf_folder.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

constexpr const char* kSpace = "\u2581";

Json byte_level(bool regex) { return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", regex}}; }

Json sequence(const char* parts, Json list) { return {{"type", "Sequence"}, {parts, std::move(list)}}; }

Json splitting(const std::string& pre, const std::string& place, bool& ignore_merges) {
  const auto said = pre_tokenizer_regexes(pre);
  if (!said)
    throw refused(place, "the tokenizer's splitting rule '" + printable(pre, 40) + "' cannot be written as tokenizer.json",
                  "a GGUF keeps it: --to gguf");
  ignore_merges = said->ignore_merges;
  std::vector<std::string> regexes = said->regexes;
  // ByteLevel has GPT-2's regex built in
  const bool built_in = !regexes.empty() && regexes.back() == pre_tokenizer_regexes("gpt-2")->regexes.back();
  if (built_in) regexes.pop_back();
  Json steps = Json::array();
  for (const std::string& regex : regexes)
    steps.push_back(regex == "\\p{N}"
                        ? Json{{"type", "Digits"}, {"individual_digits", true}}
                        : Json{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}});
  steps.push_back(byte_level(built_in));
  return steps.size() == 1 ? steps[0] : sequence("pretokenizers", steps);
}

// What is put around one text, and around two.
Json frame(const TokenizerSpec& spec) {
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto special = [&](int id) {
    const std::string& name = spec.tokens[size_t(id)];
    tokens[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
    return Json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
  };
  for (const char* text : {"A", "B"}) {
    const int type = *text == 'B';
    std::vector<Json> parts;
    if (spec.add_bos && spec.bos >= 0) parts.push_back(special(spec.bos));
    parts.push_back({{"Sequence", {{"id", text}, {"type_id", type}}}});
    if (spec.add_eos && spec.eos >= 0) parts.push_back(special(spec.eos));
    for (const Json& part : parts) {
      if (!type) single.push_back(part);
      pair.push_back(part);
    }
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

// Every way to join two tokens into a third, in the order in which SentencePiece would choose them.
Json merges_of(const TokenizerSpec& spec) {
  struct Merge {
    double score;
    int joined, left, right;
  };
  std::unordered_map<std::string_view, int> ids;
  const auto takes_part = [&](size_t i) {
    return spec.types.empty() || spec.types[i] == TokenType::normal || spec.types[i] == TokenType::user_defined;
  };
  for (size_t i = 0; i < spec.tokens.size(); i++)
    if (takes_part(i)) ids.emplace(spec.tokens[i], int(i));
  std::vector<Merge> merges;
  for (size_t i = 0; i < spec.tokens.size(); i++) {
    const std::string_view name = spec.tokens[i];
    if (!takes_part(i) || name.size() > 1024) continue;
    for (size_t at = 1; at < name.size(); at++) {
      const auto left = ids.find(name.substr(0, at)), right = ids.find(name.substr(at));
      if (left != ids.end() && right != ids.end())
        merges.push_back({i < spec.scores.size() ? spec.scores[i] : 0, int(i), left->second, right->second});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return a.score != b.score ? a.score > b.score : std::tie(a.joined, a.left, a.right) < std::tie(b.joined, b.left, b.right);
  });
  Json list = Json::array();
  for (const Merge& m : merges) list.push_back({spec.tokens[size_t(m.left)], spec.tokens[size_t(m.right)]});
  return list;
}

Json tokenizer_json(const TokenizerSpec& spec) {
  Json vocab = Json::object(), added = Json::array();
  auto& members = vocab.get_ref<Json::object_t&>();
  for (size_t i = 0; i < spec.tokens.size(); i++) {
    const TokenType type = spec.types.empty() ? TokenType::normal : spec.types[i];
    if (type == TokenType::unused) continue;
    if (!members.emplace(spec.tokens[i], i).second)
      throw refused(spec.place, "two tokens are called \"" + printable(spec.tokens[i], 40) + "\", which tokenizer.json cannot say");
    const bool special = type == TokenType::control || type == TokenType::unknown;
    if (special || type == TokenType::user_defined)
      added.push_back({{"id", i},
                       {"content", spec.tokens[i]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", special}});
  }
  Json file = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", added}, {"normalizer", nullptr}};
  Json model = {{"type", "BPE"},        {"dropout", nullptr}, {"unk_token", nullptr},   {"continuing_subword_prefix", nullptr},
                {"fuse_unk", false},    {"vocab", vocab},     {"byte_fallback", false}, {"end_of_word_suffix", nullptr},
                {"merges", spec.merges}};
  if (spec.model == "gpt2") {
    bool ignore_merges = false;
    file["pre_tokenizer"] = splitting(spec.pre, spec.place, ignore_merges);
    model["ignore_merges"] = ignore_merges;
    if (spec.pre == "qwen2") file["normalizer"] = {{"type", "NFC"}};
    file["decoder"] = byte_level(true);
    file["post_processor"] = spec.add_bos || spec.add_eos ? frame(spec) : byte_level(true);
  } else if (spec.model == "llama") {
    Json before = Json::array(), after = Json::array();
    if (spec.add_space_prefix) before.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
    before.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
    after.push_back({{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}});
    after.push_back({{"type", "ByteFallback"}});
    after.push_back({{"type", "Fuse"}});
    if (spec.add_space_prefix) after.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    file["normalizer"] = sequence("normalizers", before);
    file["pre_tokenizer"] = nullptr;
    file["decoder"] = sequence("decoders", after);
    file["post_processor"] = frame(spec);
    model["merges"] = merges_of(spec);
    model["fuse_unk"] = model["byte_fallback"] = true;
    if (spec.unknown >= 0) model["unk_token"] = spec.tokens[size_t(spec.unknown)];
  } else {
    throw refused(spec.place, "a tokenizer of the kind '" + printable(spec.model, 40) + "' cannot be written as tokenizer.json");
  }
  file["model"] = std::move(model);
  return file;
}

void write_json(const fs::path& path, const Json& json, int indent) {
  write_text(path, json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace

void write_hf_tokenizer(const Gguf& file, const fs::path& folder) {
  const TokenizerSpec spec = read_tokenizer_spec(file);
  if (const auto kept = file.string("tokenizer.huggingface.json"))
    write_text(folder / "tokenizer.json", *kept);
  else
    write_json(folder / "tokenizer.json", tokenizer_json(spec), -1);
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", spec.add_bos},
                 {"add_eos_token", spec.add_eos},
                 {"model_max_length", file.integer(model_architecture(file) + ".context_length").value_or(2048)}};
  const auto name = [&](const char* key, int id) {
    if (id >= 0) config[key] = spec.tokens[size_t(id)];
  };
  name("bos_token", spec.bos), name("eos_token", spec.eos), name("unk_token", spec.unknown), name("pad_token", spec.pad);
  if (const auto text = read_chat_template(file)) config["chat_template"] = *text;
  write_json(folder / "tokenizer_config.json", config, 2);
  if (!file.boolean(model_architecture(file) + ".attention.causal").value_or(true)) return;
  Json generation = {{"_from_model_config", false}}, ends = Json::array();
  for (int id : {spec.eos, spec.eot})
    if (id >= 0) ends.push_back(id);
  for (int id : spec.ends) ends.push_back(id);
  if (spec.bos >= 0) generation["bos_token_id"] = spec.bos;
  if (spec.pad >= 0) generation["pad_token_id"] = spec.pad;
  if (!ends.empty()) generation["eos_token_id"] = ends.size() == 1 ? ends[0] : ends;
  write_json(folder / "generation_config.json", generation, 2);
}

}  // namespace fettle
