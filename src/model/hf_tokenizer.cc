// The tokenizer of a Hugging Face folder as GGUF's keys: from tokenizer.json, which is kept whole where the keys do not say all of it; else
// from SentencePiece's tokenizer.model. Which tokens begin and end texts is said in up to four files.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json_text.h"
#include "model/hf_folder.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

std::string text_of(const Json& object, const char* key) { return hf_string(object, key).value_or(""); }

bool flag(const Json& object, const char* key, bool otherwise) { return hf_boolean(object, key).value_or(otherwise); }

void name_unnamed(TokenizerSpec& spec) {
  for (size_t i = 0; i < spec.tokens.size(); i++)
    if (spec.tokens[i].empty()) spec.tokens[i] = "[PAD" + std::to_string(i) + "]";  // a row of the embedding that nothing names
}

// What SentencePiece would call a token's score: pairs are joined in the order of merges.
void set_scores(TokenizerSpec& spec) {
  std::map<std::string, double> rank;
  for (size_t i = 0; i < spec.merges.size(); i++) {
    std::string joined = spec.merges[i];
    const size_t zero = joined.find('\0'), between = zero == joined.npos ? joined.find(' ') : zero;
    if (between != joined.npos) joined.erase(between, 1);
    rank.emplace(std::move(joined), -double(i));
  }
  for (size_t i = 0; i < spec.tokens.size(); i++) {
    const std::string& name = spec.tokens[i];
    const auto found = rank.find(name);
    spec.scores.push_back(found == rank.end() ? -1e6 : found->second);
    const bool byte = name.size() == 6 && name.starts_with("<0x") && name.ends_with('>');
    if (byte && spec.types[i] == TokenType::normal) spec.types[i] = TokenType::byte;
  }
  spec.merges.clear();
}

// WordPiece's names as GGUF has them: marked is where a word begins, not where it goes on.
void set_word_names(TokenizerSpec& spec) {
  for (size_t i = 0; i < spec.tokens.size(); i++) {
    std::string& name = spec.tokens[i];
    if (spec.types[i] != TokenType::normal || (name.starts_with('[') && name.ends_with(']'))) continue;
    name = name.starts_with("##") ? name.substr(2) : "\u2581" + name;
  }
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

void set_special(const Files& files, TokenizerSpec& spec) {
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
  if (spec.rules) return;  // which say what stands around a text
  spec.add_bos = flag(files.tokenizer_config, "add_bos_token", true);
  spec.add_eos = flag(files.tokenizer_config, "add_eos_token", false);
  if (spec.unknown >= 0) spec.types[size_t(spec.unknown)] = TokenType::unknown;
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

void put_tokenizer(const TokenizerSpec& spec, GgufWriter& out) {
  using Type = GgufValue::Type;
  const auto key = [](const char* name) { return std::string("tokenizer.ggml.") + name; };
  out.set_string(key("model"), spec.model);
  if (!spec.pre.empty()) out.set_string(key("pre"), spec.pre);
  out.set_strings(key("tokens"), spec.tokens);
  GgufArray types, scores, ends;
  for (TokenType t : spec.types) types.push_back({Type::i32, {}, int64_t(t)});
  if (!types.empty()) out.set(key("token_type"), {Type::array, Type::i32, std::move(types)});
  for (double s : spec.scores) scores.push_back({Type::f32, {}, s});
  if (!scores.empty()) out.set(key("scores"), {Type::array, Type::f32, std::move(scores)});
  if (!spec.merges.empty() || spec.model == "gpt2") out.set_strings(key("merges"), spec.merges);
  const std::pair<const char*, int> ids[] = {
      {"bos", spec.bos}, {"eos", spec.eos}, {"unknown", spec.unknown}, {"padding", spec.pad}, {"eot", spec.eot}};
  for (const auto& [name, id] : ids)
    if (id >= 0) out.set_integer(key(name) + "_token_id", uint32_t(id));
  if (spec.model == "bert") {  // under names of its own, misspelt as ggml has it
    if (spec.bos >= 0) out.set_integer(key("cls_token_id"), uint32_t(spec.bos));
    if (spec.eos >= 0) out.set_integer(key("seperator_token_id"), uint32_t(spec.eos));
  }
  for (int id : spec.ends) ends.push_back({Type::i32, {}, int64_t(id)});
  if (!ends.empty()) out.set(key("eos_token_ids"), {Type::array, Type::i32, std::move(ends)});
  out.set(key("add_bos_token"), {Type::boolean, {}, spec.add_bos});
  out.set(key("add_eos_token"), {Type::boolean, {}, spec.add_eos});
  if (spec.model == "llama") out.set(key("add_space_prefix"), {Type::boolean, {}, spec.add_space_prefix});
}

void put_hf_tokenizer(const fs::path& folder, const Json& config, int64_t vocabulary, GgufWriter& out) {
  const auto read = [&](const char* name) { return hf_json(folder, name).value_or(Json::object()); };
  const Files files{folder, config, read("tokenizer_config.json"), read("generation_config.json"), read("special_tokens_map.json")};
  const fs::path rules = folder / "tokenizer.json", pieces = folder / "tokenizer.model";
  std::error_code ignored;
  const bool has_rules = fs::exists(rules, ignored);
  if (!has_rules && !fs::exists(pieces, ignored))
    throw refused(folder.string(), "has no tokenizer.json", "the folder may be incomplete: fetch it again");
  const std::string text = read_text(has_rules ? rules : pieces, kMaxHfTokenizer);
  TokenizerSpec spec = about(has_rules ? rules : pieces, [&] {
    if (has_rules) return read_tokenizer_json(text, rules.string());
    TokenizerSpec from_pieces = read_sentencepiece(text, vocabulary);
    add_outside_tokens(files, read("added_tokens.json"), vocabulary, from_pieces);
    return from_pieces;
  });
  if (int64_t(spec.tokens.size()) > vocabulary)
    throw refused((has_rules ? rules : pieces).string(),
                  "has " + std::to_string(spec.tokens.size()) + " tokens, and the embedding has " + std::to_string(vocabulary) + " rows");
  spec.tokens.resize(size_t(vocabulary));
  spec.types.resize(size_t(vocabulary), TokenType::unused);
  if (!spec.scores.empty()) spec.scores.resize(size_t(vocabulary));
  name_unnamed(spec);
  about(folder / "tokenizer_config.json", [&] {
    set_special(files, spec);
    if (const std::string chat = chat_template(files); !chat.empty()) out.set_string("tokenizer.chat_template", chat);
  });
  if (!gguf_says_all(spec)) out.set_string("tokenizer.huggingface.json", text);
  if (spec.rules && spec.model == "llama") set_scores(spec);
  if (spec.rules && spec.model == "bert") set_word_names(spec);
  if (spec.model.empty()) spec.model = "gpt2";  // for programs that read no tokenizer.json: the nearest
  put_tokenizer(spec, out);
}

}  // namespace fettle
