// The tokenizer of a Hugging Face folder as GGUF's keys: tokenizer.json (huggingface/tokenizers) of byte-level BPE, or of BPE over
// characters with bytes as a last resort, as SentencePiece models are converted to; else SentencePiece's own tokenizer.model. What a text
// is split by is recognised by its rule, never by the model's name. Which tokens begin and end texts is said in up to four files.
// Not handled: WordPiece, unigram, and rules that GGUF has no name for (refused).
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json_text.h"
#include "model/hf_folder.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL(digits, slash) "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n" slash "]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LOWER_WORD "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define UPPER_WORD "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
constexpr SplitRule kRules[] = {
    {"llama-bpe", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+" TAIL("\\p{N}{1,3}", ""), true},
    {"dbrx", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+" TAIL("\\p{N}{1,3}", ""), false},
    {"qwen2", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+" TAIL("\\p{N}", ""), false},
    {"tekken", LOWER_WORD "|" UPPER_WORD TAIL("\\p{N}", "/"), true},
    {"gpt-4o", LOWER_WORD CONTRACTIONS "?|" UPPER_WORD CONTRACTIONS "?" TAIL("\\p{N}{1,3}", "/"), false},
};

std::string text_of(const Json& object, const char* key) { return hf_string(object, key).value_or(""); }

bool flag(const Json& object, const char* key, bool otherwise) { return hf_boolean(object, key).value_or(otherwise); }

// An object, or the parts of a "Sequence"; null: none.
std::vector<Json> parts_of(const Json& file, const char* key, const char* list) {
  const auto found = file.find(key);
  if (found == file.end() || found->is_null()) return {};
  if (!found->is_object()) throw refused("", std::string(key) + " is not an object");
  if (text_of(*found, "type") != "Sequence") return {*found};
  const auto parts = found->find(list);
  if (parts == found->end() || !parts->is_array()) throw refused("", std::string(key) + " lacks " + list);
  for (const Json& part : *parts)
    if (!part.is_object()) throw refused("", std::string(key) + " holds what is not an object");
  return parts->get<std::vector<Json>>();
}

[[noreturn]] void unknown_rule(const std::string& what) {
  throw refused("", "the tokenizer has " + what + ", which has no name in GGUF", "guessing would change what the model reads");
}

std::string rule_name(const std::vector<Json>& parts, bool ignore_merges) {
  const auto is = [&](size_t i, const char* type) { return text_of(parts[i], "type") == type; };
  if (parts.empty() || !is(parts.size() - 1, "ByteLevel") || flag(parts.back(), "add_prefix_space", true))
    unknown_rule("an unknown splitting rule");
  const bool own = flag(parts.back(), "use_regex", true);
  if (parts.size() == 1 && own && !ignore_merges) return "gpt-2";
  if (parts.size() == 2 && own && is(0, "Digits") && flag(parts[0], "individual_digits", false) && !ignore_merges) return "smollm";
  if (parts.size() == 2 && !own && is(0, "Split") && text_of(parts[0], "behavior") == "Isolated" && !flag(parts[0], "invert", false) &&
      parts[0].contains("pattern"))
    for (const SplitRule& rule : kRules)
      if (text_of(parts[0]["pattern"], "Regex") == rule.pattern && rule.ignore_merges == ignore_merges) return rule.name;
  unknown_rule("an unknown splitting rule");
}

void name_unnamed(TokenizerSpec& spec) {
  for (size_t i = 0; i < spec.tokens.size(); i++)
    if (spec.tokens[i].empty()) spec.tokens[i] = "[PAD" + std::to_string(i) + "]";  // a row of the embedding that nothing names
}

void set_tokens(const Json& file, int64_t vocabulary, TokenizerSpec& spec) {
  const auto place = [&](int64_t id, const std::string& name, TokenType type) {
    if (id < 0 || id >= vocabulary)
      throw refused("", "token \"" + printable(name, 40) + "\" is number " + std::to_string(id) + " of " + std::to_string(vocabulary));
    std::string& slot = spec.tokens[size_t(id)];
    if (!slot.empty() && slot != name)
      throw refused(
          "", "two tokens have the number " + std::to_string(id) + ": \"" + printable(slot, 40) + "\" and \"" + printable(name, 40) + "\"");
    slot = name;
    spec.types[size_t(id)] = type;
  };
  spec.tokens.resize(size_t(vocabulary));
  spec.types.resize(size_t(vocabulary), TokenType::unused);
  const Json& vocab = file["model"]["vocab"];
  for (const auto& [name, id] : vocab.items()) {
    if (!id.is_number_integer()) throw refused("", "the number of token \"" + printable(name, 40) + "\" is none");
    place(id.get<int64_t>(), name, TokenType::normal);
  }
  const auto added = file.find("added_tokens");
  if (added != file.end() && added->is_array())
    for (const Json& token : *added) {
      if (!token.is_object()) throw refused("", "added_tokens holds what is not an object");
      const auto id = hf_integer(token, "id");
      if (!id) throw refused("", "an added token has no id");
      place(*id, text_of(token, "content"), flag(token, "special", false) ? TokenType::control : TokenType::user_defined);
    }
  name_unnamed(spec);
}

void set_merges(const Json& model, TokenizerSpec& spec) {
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) throw refused("", "the tokenizer has no merges");
  for (const Json& m : *merges) {
    const bool pair = m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string();
    if (!pair && !m.is_string()) throw refused("", "merge " + std::to_string(spec.merges.size()) + " is not two tokens");
    spec.merges.push_back(pair ? m[0].get_ref<const std::string&>() + " " + m[1].get_ref<const std::string&>() : m.get<std::string>());
  }
}

// What SentencePiece would call a token's score: pairs are joined in the order of merges.
void set_scores(TokenizerSpec& spec) {
  std::map<std::string, float> rank;
  for (size_t i = 0; i < spec.merges.size(); i++) {
    std::string joined = spec.merges[i];
    if (const size_t space = joined.find(' '); space != joined.npos) joined.erase(space, 1);
    rank.emplace(std::move(joined), -float(i));
  }
  for (size_t i = 0; i < spec.tokens.size(); i++) {
    const std::string& name = spec.tokens[i];
    const auto found = rank.find(name);
    spec.scores.push_back(found == rank.end() ? -1e6f : found->second);
    const bool byte = name.size() == 6 && name.starts_with("<0x") && name.ends_with('>');
    if (byte && spec.types[i] == TokenType::normal) spec.types[i] = TokenType::byte;
  }
  spec.merges.clear();
}

// The rules of SentencePiece as tokenizer.json says them; whether a space is put in front of texts.
bool space_prefix(const Json& file) {
  bool prefix = false;
  for (const Json& n : parts_of(file, "normalizer", "normalizers")) {
    const std::string type = text_of(n, "type");
    const bool space =
        type == "Replace" && text_of(n, "content") == "\u2581" && n.contains("pattern") && text_of(n["pattern"], "String") == " ";
    if (type == "Prepend" && text_of(n, "prepend") == "\u2581")
      prefix = true;
    else if (!space)
      unknown_rule("the normalizer " + printable(type, 40));
  }
  for (const Json& p : parts_of(file, "pre_tokenizer", "pretokenizers")) {
    const std::string type = text_of(p, "type"), scheme = hf_string(p, "prepend_scheme").value_or("always");
    if (type == "Metaspace")
      prefix = scheme != "never" && flag(p, "add_prefix_space", true);
    else if (type != "Split" || !p.contains("pattern") || text_of(p["pattern"], "String") != " ")  // Gemma's, which splits nothing
      unknown_rule("the splitting rule " + printable(type, 40));
  }
  return prefix;
}

TokenizerSpec from_tokenizer_json(const Json& file, int64_t vocabulary) {
  const auto model = file.find("model");
  if (model == file.end() || !model->is_object()) throw refused("", "has no model");
  const std::string type = hf_string(*model, "type").value_or("BPE");
  if (type != "BPE") unknown_rule("the model " + printable(type, 40));
  const auto vocab = model->find("vocab");
  if (vocab == model->end() || !vocab->is_object()) throw refused("", "the tokenizer has no vocab");
  TokenizerSpec spec;
  set_tokens(file, vocabulary, spec);
  set_merges(*model, spec);
  const std::vector<Json> splits = parts_of(file, "pre_tokenizer", "pretokenizers");
  const bool bytes = std::any_of(splits.begin(), splits.end(), [](const Json& p) { return text_of(p, "type") == "ByteLevel"; });
  if (bytes) {
    spec.model = "gpt2";
    spec.pre = rule_name(splits, flag(*model, "ignore_merges", false));
    for (const Json& n : parts_of(file, "normalizer", "normalizers"))
      if (text_of(n, "type") != "NFC" || spec.pre != "qwen2") unknown_rule("the normalizer " + printable(text_of(n, "type"), 40));
  } else {
    if (!flag(*model, "byte_fallback", false)) unknown_rule("characters without bytes");
    spec.model = "llama";
    spec.pre = "default";
    spec.add_space_prefix = space_prefix(file);
    set_scores(spec);
  }
  return spec;
}

int find_token(const TokenizerSpec& spec, const std::string& name) {
  const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), name);
  return name.empty() || found == spec.tokens.end() ? -1 : int(found - spec.tokens.begin());
}

// Files write a special token as its name or as an object that holds it.
std::string token_name(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  return found->is_object() ? text_of(*found, "content") : found->is_string() ? found->get<std::string>() : "";
}

std::vector<int> token_ids(const Json& config, const char* key, size_t tokens) {
  std::vector<int> ids;
  const auto add = [&](const Json& id) {
    if (!id.is_number_integer() || id.get<int64_t>() < -1 || id.get<int64_t>() >= int64_t(tokens))
      throw refused("", std::string(key) + " is " + printable(id.dump(-1, ' ', true, Json::error_handler_t::replace), 40) +
                            ", and there are " + std::to_string(tokens) + " tokens");
    if (id.get<int64_t>() >= 0) ids.push_back(id.get<int>());
  };
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return ids;
  if (!found->is_array()) {
    add(*found);
    return ids;
  }
  if (found->size() > 64) throw refused("", std::string(key) + " is a list of " + std::to_string(found->size()));
  for (const Json& id : *found) add(id);
  return ids;
}

struct Files {
  fs::path folder;
  Json config, tokenizer_config, generation, special;  // empty objects where there is no such file
};

// Tokens that were added to a SentencePiece model stand in two other files.
void add_outside_tokens(const Files& files, const Json& numbers, int64_t vocabulary, TokenizerSpec& spec) {
  spec.tokens.resize(size_t(vocabulary));
  spec.scores.resize(size_t(vocabulary), -1e6f);
  spec.types.resize(size_t(vocabulary), TokenType::unused);
  const auto place = [&](int64_t id, const std::string& name, bool special) {
    if (id < 0 || id >= vocabulary || name.empty())
      throw refused(
          "", "the added token \"" + printable(name, 40) + "\" is number " + std::to_string(id) + " of " + std::to_string(vocabulary));
    spec.tokens[size_t(id)] = name;
    if (spec.types[size_t(id)] != TokenType::unknown) spec.types[size_t(id)] = special ? TokenType::control : TokenType::user_defined;
  };
  for (const auto& [name, id] : numbers.items())
    if (id.is_number_integer()) place(id.get<int64_t>(), name, false);
  const auto decoder = files.tokenizer_config.find("added_tokens_decoder");
  if (decoder != files.tokenizer_config.end() && decoder->is_object())
    for (const auto& [id, token] : decoder->items())
      if (token.is_object() && id.size() <= 9 && !id.empty() && id.find_first_not_of("0123456789") == id.npos)
        place(std::stoll(id), text_of(token, "content"), flag(token, "special", false));
  name_unnamed(spec);
}

// Whether the rule that is applied behind the tokenizer puts its special token first and last; nullopt: it does not say.
struct Frame {
  bool begin = false, end = false;
};
std::optional<Frame> frame_of(const Json& file) {
  for (const Json& p : parts_of(file, "post_processor", "processors")) {
    if (text_of(p, "type") != "TemplateProcessing" || !p.contains("single") || !p["single"].is_array()) continue;
    const Json& single = p["single"];
    const auto special = [](const Json& part) { return part.is_object() && part.contains("SpecialToken"); };
    return Frame{!single.empty() && special(single.front()), !single.empty() && special(single.back())};
  }
  return std::nullopt;
}

void set_special(const Files& files, const std::optional<Frame>& frame, TokenizerSpec& spec) {
  const auto named = [&](const char* name, int& id) {
    const std::string key = std::string(name) + "_token", number = key + "_id";
    for (const Json* file : {&files.tokenizer_config, &files.special})
      if (id < 0) id = find_token(spec, token_name(*file, key.c_str()));
    for (const Json* file : {&files.generation, &files.config})
      if (const std::vector<int> ids = token_ids(*file, number.c_str(), spec.tokens.size()); id < 0 && !ids.empty()) id = ids[0];
  };
  named("bos", spec.bos), named("eos", spec.eos), named("unk", spec.unknown), named("pad", spec.pad);
  std::set<int> ends;
  for (const Json* file : {&files.generation, &files.config})
    for (int id : token_ids(*file, "eos_token_id", spec.tokens.size()))
      if (id != spec.eos) ends.insert(id);
  spec.ends.assign(ends.begin(), ends.end());
  const bool sentencepiece = spec.model == "llama";
  spec.add_bos = frame ? frame->begin : flag(files.tokenizer_config, "add_bos_token", sentencepiece);
  spec.add_eos = frame ? frame->end : flag(files.tokenizer_config, "add_eos_token", false);
  if (spec.unknown >= 0 && sentencepiece) spec.types[size_t(spec.unknown)] = TokenType::unknown;
}

// The template that chats are rendered by: a file of its own, or in the configuration, which may name several.
std::string chat_template(const Files& files) {
  std::error_code ignored;
  if (fs::exists(files.folder / "chat_template.jinja", ignored)) return read_text(files.folder / "chat_template.jinja", kMaxHfConfig);
  const auto found = files.tokenizer_config.find("chat_template");
  if (found == files.tokenizer_config.end()) {
    const auto file = hf_json(files.folder, "chat_template.json");
    return file ? text_of(*file, "chat_template") : "";
  }
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array())
    for (const Json& one : *found)
      if (one.is_object() && text_of(one, "name") == "default") return text_of(one, "template");
  return "";
}

// Runs `work`; its error is about this file.
template <class Work>
auto about(const fs::path& file, Work&& work) {
  try {
    return work();
  } catch (const Error& e) {
    throw Error(e.code, e.place.empty() ? file.string() : e.place, e.what(), e.hint);
  }
}

}  // namespace

const SplitRule* find_split_rule(std::string_view name) {
  const auto found = std::find_if(std::begin(kRules), std::end(kRules), [&](const SplitRule& r) { return name == r.name; });
  return found == std::end(kRules) ? nullptr : found;
}

void put_tokenizer(const TokenizerSpec& spec, GgufWriter& out) {
  using Type = GgufValue::Type;
  const auto key = [](const char* name) { return std::string("tokenizer.ggml.") + name; };
  out.set_string(key("model"), spec.model);
  if (!spec.pre.empty()) out.set_string(key("pre"), spec.pre);
  out.set_strings(key("tokens"), spec.tokens);
  GgufArray types, scores, ends;
  for (TokenType t : spec.types) types.push_back({Type::i32, {}, int64_t(t)});
  if (!types.empty()) out.set(key("token_type"), {Type::array, Type::i32, std::move(types)});
  for (float s : spec.scores) scores.push_back({Type::f32, {}, double(s)});
  if (!scores.empty()) out.set(key("scores"), {Type::array, Type::f32, std::move(scores)});
  if (!spec.merges.empty() || spec.model == "gpt2") out.set_strings(key("merges"), spec.merges);
  const std::pair<const char*, int> ids[] = {
      {"bos", spec.bos}, {"eos", spec.eos}, {"unknown", spec.unknown}, {"padding", spec.pad}, {"eot", spec.eot}};
  for (const auto& [name, id] : ids)
    if (id >= 0) out.set_integer(key(name) + "_token_id", uint32_t(id));
  for (int id : spec.ends) ends.push_back({Type::i32, {}, int64_t(id)});
  if (!ends.empty()) out.set(key("eos_token_ids"), {Type::array, Type::i32, std::move(ends)});
  out.set(key("add_bos_token"), {Type::boolean, {}, spec.add_bos});
  out.set(key("add_eos_token"), {Type::boolean, {}, spec.add_eos});
  if (spec.model == "llama") out.set(key("add_space_prefix"), {Type::boolean, {}, spec.add_space_prefix});
}

void put_hf_tokenizer(const fs::path& folder, const Json& config, int64_t vocabulary, GgufWriter& out) {
  const auto read = [&](const char* name) { return hf_json(folder, name).value_or(Json::object()); };
  const Files files{folder, config, read("tokenizer_config.json"), read("generation_config.json"), read("special_tokens_map.json")};
  const auto rules = hf_json(folder, "tokenizer.json", kMaxHfTokenizer);
  std::error_code ignored;
  if (!rules && !fs::exists(folder / "tokenizer.model", ignored))
    throw refused(folder.string(), "has no tokenizer.json", "the folder may be incomplete: fetch it again");
  TokenizerSpec spec = about(folder / (rules ? "tokenizer.json" : "tokenizer.model"), [&] {
    if (rules) return from_tokenizer_json(*rules, vocabulary);
    TokenizerSpec from_pieces = read_sentencepiece(read_text(folder / "tokenizer.model", kMaxHfTokenizer), vocabulary);
    add_outside_tokens(files, read("added_tokens.json"), vocabulary, from_pieces);
    return from_pieces;
  });
  about(folder / "tokenizer_config.json", [&] {
    set_special(files, rules ? frame_of(*rules) : std::nullopt, spec);
    if (const std::string text = chat_template(files); !text.empty()) out.set_string("tokenizer.chat_template", text);
  });
  put_tokenizer(spec, out);
}

}  // namespace fettle
