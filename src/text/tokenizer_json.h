// Reading a tokenizer.json, part by part (tokenizer_json.cc holds it together). Private to text.
#pragma once
#include <simdjson.h>

#include <string>
#include <vector>

#include "text/token_rules.h"
#include "text/tokenizer.h"

namespace fettle::tokenizer_json {

using Element = simdjson::dom::element;
using Object = simdjson::dom::object;

// One object of the file, with what an error needs to know: "tokenizer.json: normalizer: …".
class Node {
 public:
  Node(Element element, std::string place);  // Error{refused} unless it is an object
  std::string type() const { return text("type"); }
  const std::string& place() const { return place_; }
  bool has(std::string_view key) const;  // and it is not null
  // Without a default the key must be there. Error{refused} where the value is of another kind.
  std::string text(std::string_view key) const;
  std::string text(std::string_view key, std::string otherwise) const;
  bool flag(std::string_view key, bool otherwise) const;
  size_t count(std::string_view key) const;
  Element at(std::string_view key) const;
  Node node(std::string_view key) const;
  std::vector<Node> nodes(std::string_view key) const;
  simdjson::dom::array array(std::string_view key) const;
  // {"String": …} or {"Regex": …}
  PatternText pattern(std::string_view key) const;
  [[noreturn]] void bad(const std::string& what) const;
  [[noreturn]] void unknown(std::string_view component) const;

 private:
  std::optional<Element> find(std::string_view key) const;
  Object object_;
  std::string place_;
};

void read_normalizer(const Node& node, std::vector<NormalStep>& steps);
void read_pre_tokenizer(const Node& node, std::vector<SplitStep>& steps);
void read_decoder(const Node& node, std::vector<DecodeStep>& steps);
// "model": tokens, scores, merges and what the model does with them.
void read_model(const Node& node, TokenizerSpec& spec, TokenRules& rules);

}  // namespace fettle::tokenizer_json
