// tokenizer.json's models: vocabulary, scores and merges.
#include <algorithm>

#include "base/base.h"
#include "text/tokenizer_json.h"

namespace fettle::tokenizer_json {
namespace {

constexpr size_t kMaxTokens = 1 << 24;
constexpr size_t kMaxMark = 256;  // bytes that every character is put together with

// Takes a token in under its id. Ids may have gaps, but not so many that a few lines of text ask for gigabytes.
void set_token(const Node& node, TokenizerSpec& spec, std::string_view name, uint64_t id, size_t n_tokens) {
  if (id >= kMaxTokens || id >= n_tokens * 4 + 65536) {
    node.bad("the token '" + std::string(name.substr(0, 100)) + "' has the id " + std::to_string(id) + ", but there are only " +
             std::to_string(n_tokens) + " tokens");
  }
  if (id >= spec.tokens.size()) {
    spec.tokens.resize(id + 1);
    spec.types.resize(id + 1, TokenType::unused);
  }
  if (spec.types[id] != TokenType::unused) {
    node.bad("the tokens '" + spec.tokens[id].substr(0, 100) + "' and '" + std::string(name.substr(0, 100)) + "' both have the id " +
             std::to_string(id));
  }
  spec.tokens[id] = name;
  spec.types[id] = TokenType::normal;
}

void read_vocabulary(const Node& node, TokenizerSpec& spec) {
  Object vocabulary;
  if (node.at("vocab").get(vocabulary) != simdjson::SUCCESS) node.bad("'vocab' is not an object");
  size_t n = 0;
  for ([[maybe_unused]] const auto field : vocabulary) ++n;
  for (const auto field : vocabulary) {
    uint64_t id = 0;
    if (field.value.get(id) != simdjson::SUCCESS) node.bad("the id of token '" + std::string(field.key.substr(0, 100)) + "' is no number");
    set_token(node, spec, field.key, id, n);
  }
}

int find(const TokenizerSpec& spec, std::string_view name) {
  const auto at = std::find(spec.tokens.begin(), spec.tokens.end(), name);
  return at == spec.tokens.end() || name.empty() ? -1 : static_cast<int>(at - spec.tokens.begin());
}

void read_merges(const Node& node, TokenizerSpec& spec) {
  for (const Element merge : node.array("merges")) {
    std::string_view text, second;
    simdjson::dom::array pair;
    if (merge.get(text) == simdjson::SUCCESS) {
      spec.merges.emplace_back(text);
    } else if (merge.get(pair) == simdjson::SUCCESS && pair.size() == 2 && pair.at(0).get(text) == simdjson::SUCCESS &&
               pair.at(1).get(second) == simdjson::SUCCESS) {
      const bool spaces = text.find(' ') != std::string_view::npos || second.find(' ') != std::string_view::npos;
      std::string joined(text);
      joined += spaces ? '\0' : ' ';
      spec.merges.push_back(joined.append(second));
    } else {
      node.bad("merge " + std::to_string(spec.merges.size()) + " is not two tokens");
    }
  }
}

void mark_bytes(TokenizerSpec& spec) {
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const std::string& name = spec.tokens[i];
    if (name.size() == 6 && name.starts_with("<0x") && name[5] == '>') spec.types[i] = TokenType::byte;
  }
}

void read_bpe(const Node& node, TokenizerSpec& spec, ModelRules& rules) {
  rules.kind = ModelRules::Kind::bpe;
  read_vocabulary(node, spec);
  read_merges(node, spec);
  rules.byte_fallback = node.flag("byte_fallback", false);
  rules.fuse_unknown = node.flag("fuse_unk", false);
  rules.ignore_merges = node.flag("ignore_merges", false);
  rules.last_merge = true;
  rules.inside = node.text("continuing_subword_prefix", "");
  rules.ending = node.text("end_of_word_suffix", "");
  if (rules.inside.size() > kMaxMark || rules.ending.size() > kMaxMark) node.bad("its prefix or suffix of names is too long");
  const std::string unknown = node.text("unk_token", "");
  rules.unknown = find(spec, unknown);
  if (!unknown.empty() && rules.unknown < 0) node.bad("the unknown token '" + unknown + "' is not in the vocabulary");
  if (rules.byte_fallback) mark_bytes(spec);
}

void read_unigram(const Node& node, TokenizerSpec& spec, ModelRules& rules) {
  rules.kind = ModelRules::Kind::unigram;
  const simdjson::dom::array vocabulary = node.array("vocab");
  const size_t n = vocabulary.size();
  for (const Element entry : vocabulary) {
    simdjson::dom::array pair;
    std::string_view name;
    double score = 0;
    if (entry.get(pair) != simdjson::SUCCESS || pair.size() != 2 || pair.at(0).get(name) != simdjson::SUCCESS ||
        pair.at(1).get(score) != simdjson::SUCCESS) {
      node.bad("token " + std::to_string(spec.tokens.size()) + " is not a name and a score");
    }
    spec.scores.push_back(score);
    set_token(node, spec, name, spec.tokens.size(), n);
  }
  if (node.has("unk_id")) {
    const size_t id = node.count("unk_id");
    if (id >= n) node.bad("the unknown token " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(n));
    rules.unknown = static_cast<int>(id);
  }
  rules.byte_fallback = node.flag("byte_fallback", false);
  if (rules.byte_fallback) mark_bytes(spec);
}

void read_words(const Node& node, TokenizerSpec& spec, ModelRules& rules, bool parts) {
  rules.kind = parts ? ModelRules::Kind::word_piece : ModelRules::Kind::word_level;
  read_vocabulary(node, spec);
  const std::string unknown = node.text("unk_token", parts ? "[UNK]" : "<unk>");
  rules.unknown = find(spec, unknown);
  if (rules.unknown < 0) node.bad("the unknown token '" + unknown + "' is not in the vocabulary");
  if (!parts) return;
  rules.inside = node.text("continuing_subword_prefix", "##");
  if (node.has("max_input_chars_per_word")) rules.max_characters = node.count("max_input_chars_per_word");
}

}  // namespace

void read_model(const Node& node, TokenizerSpec& spec, TokenRules& rules) {
  // files of the first years do not say which model they hold
  std::string type = node.text("type", "");
  if (type.empty()) {
    type = node.has("merges")                     ? "BPE"
           : node.at("vocab").is_array()          ? "Unigram"
           : node.has("max_input_chars_per_word") ? "WordPiece"
                                                  : "WordLevel";
  }
  if (type == "BPE") {
    read_bpe(node, spec, rules.model);
  } else if (type == "Unigram") {
    read_unigram(node, spec, rules.model);
  } else if (type == "WordPiece" || type == "WordLevel") {
    read_words(node, spec, rules.model, type == "WordPiece");
  } else {
    node.unknown("model '" + type + "'");
  }
  if (spec.tokens.empty()) node.bad("the vocabulary is empty");
  spec.unknown = rules.model.unknown;
}

}  // namespace fettle::tokenizer_json
