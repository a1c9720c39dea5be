// A word is unknown as a whole when it is too long or when one of its parts is no token. Source: Devlin et al. 2018.
#include "text/word_piece.h"

#include "base/base.h"
#include "base/utf8.h"

namespace fettle {

WordEncoder::WordEncoder(const ModelRules& rules, const TokenizerSpec& spec, const TokenTable& table, const std::vector<bool>& writable)
    : rules_(rules), spec_(spec), table_(table), writable_(writable) {
  if (rules.unknown < 0) throw refused(spec.place, "the tokenizer has no unknown token");
  if (rules.kind != ModelRules::Kind::word_piece) return;
  tree_ = word_tree(spec, writable);
  first_ = tree_.walk(PrefixTree::kRoot, rules.first);
  inside_ = tree_.walk(PrefixTree::kRoot, rules.inside);
}

void WordEncoder::encode(std::string_view word, std::vector<int>& ids) const {
  if (rules_.kind == ModelRules::Kind::word_level) {
    const int id = table_.find(word);
    ids.push_back(id >= 0 && writable_[static_cast<size_t>(id)] ? id : rules_.unknown);
    return;
  }
  size_t n_characters = 0;
  for (size_t at = 0; at < word.size() && n_characters <= rules_.max_characters; ++n_characters) {
    at += decode_character(word.substr(at)).n_bytes;
  }
  const size_t before = ids.size();
  bool known = n_characters <= rules_.max_characters;
  for (size_t at = 0; at < word.size() && known;) {
    const uint32_t node = at == 0 ? first_ : inside_;
    const auto [id, n_bytes] = node == PrefixTree::kNone ? std::pair<int, size_t>{-1, 0} : tree_.longest(word.substr(at), node);
    known = id >= 0;
    ids.push_back(id);
    at += n_bytes;
  }
  if (known) return;
  ids.resize(before);
  ids.push_back(rules_.unknown);
}

}  // namespace fettle
