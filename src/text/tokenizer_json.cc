// tokenizer.json as Hugging Face's tokenizers writes it: read whole (simdjson, which checks UTF-8 and depth), then part by part into
// TokenRules. What is unknown is refused by name, since leaving a step out would change what the model reads.
// Not handled: truncation and padding (what a text is cut to is the caller's matter), pairs of texts.
#include "text/tokenizer_json.h"

#include <algorithm>

#include "base/base.h"
#include "text/gguf_rules.h"
#include "text/vocabulary.h"

namespace fettle {
namespace tokenizer_json {

Node::Node(Element element, std::string place) : place_(std::move(place)) {
  if (element.get(object_) != simdjson::SUCCESS) bad("is not an object");
}

void Node::bad(const std::string& what) const { throw refused(place_, what); }
void Node::unknown(std::string_view component) const {
  throw refused(place_, "unknown " + std::string(component.substr(0, 200)), "leaving it out would change what the model reads");
}

std::optional<Element> Node::find(std::string_view key) const {
  Element element;
  if (object_.at_key(key).get(element) != simdjson::SUCCESS || element.is_null()) return std::nullopt;
  return element;
}

bool Node::has(std::string_view key) const { return find(key).has_value(); }

Element Node::at(std::string_view key) const {
  const auto element = find(key);
  if (!element) bad("'" + std::string(key) + "' is missing");
  return *element;
}

std::string Node::text(std::string_view key) const {
  std::string_view value;
  if (at(key).get(value) != simdjson::SUCCESS) bad("'" + std::string(key) + "' is not a text");
  return std::string(value);
}

std::string Node::text(std::string_view key, std::string otherwise) const { return has(key) ? text(key) : std::move(otherwise); }

bool Node::flag(std::string_view key, bool otherwise) const {
  const auto element = find(key);
  if (!element) return otherwise;
  bool value = false;
  if (element->get(value) != simdjson::SUCCESS) bad("'" + std::string(key) + "' is neither true nor false");
  return value;
}

size_t Node::count(std::string_view key) const {
  uint64_t value = 0;
  if (at(key).get(value) != simdjson::SUCCESS) bad("'" + std::string(key) + "' is no count");
  return value;
}

Node Node::node(std::string_view key) const { return {at(key), place_ + ": " + std::string(key)}; }

simdjson::dom::array Node::array(std::string_view key) const {
  simdjson::dom::array value;
  if (at(key).get(value) != simdjson::SUCCESS) bad("'" + std::string(key) + "' is not an array");
  return value;
}

std::vector<Node> Node::nodes(std::string_view key) const {
  std::vector<Node> all;
  for (const Element element : array(key)) all.emplace_back(element, place_ + ": " + std::string(key) + " " + std::to_string(all.size()));
  return all;
}

PatternText Node::pattern(std::string_view key) const {
  std::string_view value;
  if (at(key).get(value) == simdjson::SUCCESS) return {std::string(value), false};
  const Node inner = node(key);
  return inner.has("Regex") ? PatternText{inner.text("Regex"), true} : PatternText{inner.text("String"), false};
}

namespace {

constexpr size_t kMostParts = 256;  // of a template, each of which looks through the special tokens

// The tokens that a post-processor puts around one text.
void read_post_processor(const Node& node, TokenRules& rules) {
  const std::string type = node.type();
  std::vector<int> begin, end;
  const auto id_of = [&](Element pair_of) {
    simdjson::dom::array pair;
    uint64_t id = 0;
    if (pair_of.get(pair) != simdjson::SUCCESS || pair.size() != 2 || pair.at(1).get(id) != simdjson::SUCCESS || id > INT32_MAX) {
      node.bad("a special token is not a name and an id");
    }
    return static_cast<int>(id);
  };
  if (type == "Sequence") {
    for (const Node& inner : node.nodes("processors")) read_post_processor(inner, rules);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    begin.push_back(id_of(node.at("cls")));
    end.push_back(id_of(node.at("sep")));
  } else if (type == "TemplateProcessing") {
    bool text_seen = false;
    const std::vector<Node> parts = node.nodes("single");
    if (parts.size() > kMostParts) node.bad("its template has " + std::to_string(parts.size()) + " parts");
    for (const Node& part : parts) {
      if (part.has("Sequence")) {
        if (text_seen || part.node("Sequence").text("id") != "A") node.bad("its template for one text holds another");
        text_seen = true;
        continue;
      }
      const Node token = node.node("special_tokens").node(part.node("SpecialToken").text("id"));
      for (const Element element : token.array("ids")) {
        uint64_t id = 0;
        if (element.get(id) != simdjson::SUCCESS || id > INT32_MAX) token.bad("an id is no number");
        (text_seen ? end : begin).push_back(static_cast<int>(id));
      }
    }
    if (!text_seen) node.bad("its template has no place for the text");
  } else if (type != "ByteLevel") {  // which changes offsets only
    node.unknown("post-processor '" + type + "'");
  }
  rules.begin.insert(rules.begin.begin(), begin.begin(), begin.end());
  rules.end.insert(rules.end.end(), end.begin(), end.end());
}

void read_added_tokens(const Node& file, TokenizerSpec& spec, TokenRules& rules) {
  if (!file.has("added_tokens")) return;
  const std::vector<Node> nodes = file.nodes("added_tokens");
  const size_t n_tokens = spec.tokens.size() + nodes.size();
  for (const Node& node : nodes) {
    const std::string name = node.text("content");
    const uint64_t id = node.count("id");
    if (id >= n_tokens * 4 + 65536)
      node.bad("its id " + std::to_string(id) + " is far beyond the vocabulary of " + std::to_string(n_tokens));
    if (id >= spec.tokens.size()) {
      spec.tokens.resize(id + 1);
      spec.types.resize(id + 1, TokenType::unused);
    }
    if (spec.types[id] != TokenType::unused && spec.tokens[id] != name) {
      node.bad("the tokens '" + spec.tokens[id].substr(0, 100) + "' and '" + name.substr(0, 100) + "' both have the id " +
               std::to_string(id));
    }
    const bool outside = spec.types[id] == TokenType::unused;
    spec.tokens[id] = name;
    const bool special = node.flag("special", false);
    spec.types[id] = special ? TokenType::control : TokenType::user_defined;
    if (name.empty()) continue;
    rules.added.push_back({.id = static_cast<int>(id),
                           .special = special,
                           .left = node.flag("lstrip", false),
                           .right = node.flag("rstrip", false),
                           .single_word = node.flag("single_word", false),
                           .outside = outside,
                           .normalized = node.flag("normalized", !special)});
  }
  if (!spec.scores.empty()) spec.scores.resize(spec.tokens.size(), 0);
}

// How a GGUF puts it, for programs that read no tokenizer.json.
void name_in_gguf(TokenizerSpec& spec, const TokenRules& rules) {
  const auto prefixed = [](const SplitStep& step) {
    return step.kind == SplitStep::Kind::spaces_to && step.prefix != SplitStep::Prefix::never;
  };
  const bool prepended = std::any_of(rules.normalizer.begin(), rules.normalizer.end(),
                                     [](const NormalStep& step) { return step.kind == NormalStep::Kind::prepend; });
  spec.add_space_prefix = prepended || std::any_of(rules.splits.begin(), rules.splits.end(), prefixed);
  switch (rules.model.kind) {
    case ModelRules::Kind::bpe:
      if (!rules.splits.empty() && rules.splits.back().kind == SplitStep::Kind::letters) {
        spec.model = "gpt2";
        spec.pre = gguf_name_of(rules);
      } else if (rules.model.byte_fallback) {
        spec.model = "llama";
      }
      break;
    case ModelRules::Kind::word_piece:
      spec.model = "bert";
      break;
    case ModelRules::Kind::unigram:
      spec.model = "t5";
      break;
    default:
      break;
  }
  for (const NormalStep& step : rules.normalizer) {
    if (step.kind == NormalStep::Kind::charsmap) spec.charsmap = step.text;
  }
}

}  // namespace
}  // namespace tokenizer_json

TokenizerSpec read_tokenizer_json(std::string_view json, const std::string& place) {
  using namespace tokenizer_json;
  simdjson::dom::parser parser;
  Element root;
  if (const auto error = parser.parse(json.data(), json.size()).get(root); error != simdjson::SUCCESS) {
    throw refused(place, std::string("is no JSON that can be read: ") + simdjson::error_message(error));
  }
  const Node file(root, place);
  TokenizerSpec spec;
  spec.place = place;
  auto rules = std::make_shared<TokenRules>();
  read_model(file.node("model"), spec, *rules);
  if (file.has("normalizer")) read_normalizer(file.node("normalizer"), rules->normalizer);
  if (file.has("pre_tokenizer")) read_pre_tokenizer(file.node("pre_tokenizer"), rules->splits);
  if (file.has("post_processor")) read_post_processor(file.node("post_processor"), *rules);
  rules->joined_by_spaces = !file.has("decoder");
  if (file.has("decoder")) read_decoder(file.node("decoder"), rules->decoder);
  read_added_tokens(file, spec, *rules);
  for (const std::vector<int>* ids : {&rules->begin, &rules->end}) {
    for (const int id : *ids) {
      if (static_cast<size_t>(id) >= spec.tokens.size()) file.node("post_processor").bad("token " + std::to_string(id) + " does not exist");
    }
  }
  if (!rules->begin.empty()) spec.bos = rules->begin.front();
  if (!rules->end.empty()) spec.eos = rules->end.back();
  spec.add_bos = !rules->begin.empty();
  spec.add_eos = !rules->end.empty();
  name_in_gguf(spec, *rules);
  spec.rules = std::move(rules);
  return spec;
}

}  // namespace fettle
