// Viterbi, left to right: the best way to every place is kept with the token that ends there. A character that is no token itself may
// always be unknown, ten below the lowest score. Source: Kudo 2018, and SentencePiece for the constants.
#include "text/unigram.h"

#include <algorithm>
#include <cmath>

#include "base/base.h"
#include "base/utf8.h"
#include "text/vocabulary.h"

namespace fettle {
namespace {

constexpr double kUnknownPenalty = 10;

struct Best {
  double score = 0;
  uint32_t from = 0;
  int32_t id = -1;  // -1: no way leads here yet
};

}  // namespace

UnigramEncoder::UnigramEncoder(const ModelRules& rules, const TokenizerSpec& spec, const TokenTable& table,
                               const std::vector<bool>& writable)
    : rules_(rules), spec_(spec) {
  if (spec.scores.size() != spec.tokens.size()) {
    throw refused(spec.place,
                  "tokenizer has " + std::to_string(spec.tokens.size()) + " tokens but " + std::to_string(spec.scores.size()) + " scores");
  }
  double lowest = HUGE_VAL;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!std::isfinite(spec.scores[id])) throw refused(spec.place, "score of token " + std::to_string(id) + " is not a finite number");
    if (!spec.tokens[id].empty()) lowest = std::min(lowest, spec.scores[id]);
  }
  unknown_score_ = lowest - kUnknownPenalty;
  bool all_bytes = rules.byte_fallback;
  for (int b = 0; b < 256; ++b) {
    byte_ids_[b] = table.find(byte_token_name(static_cast<uint8_t>(b)));
    all_bytes = all_bytes && byte_ids_[b] >= 0;
  }
  if (rules.unknown < 0 && !all_bytes) throw refused(spec.place, "the unigram tokenizer has no unknown token");
  tree_ = word_tree(spec, writable);
}

void UnigramEncoder::encode(std::string_view piece, std::vector<int>& ids) const {
  std::vector<Best> best(piece.size() + 1);
  best[0].id = 0;
  const auto offer = [&](size_t from, size_t to, double score, int id) {
    Best& there = best[to];
    if (there.id >= 0 && score <= there.score) return;
    there = {score, static_cast<uint32_t>(from), id};
  };
  const int unknown = static_cast<int>(spec_.tokens.size());  // stands for it until the end: the unknown token may be a token of the text
  for (size_t at = 0; at < piece.size();) {
    const size_t one = decode_character(piece.substr(at)).n_bytes;
    const double score = best[at].score;
    bool known = false;
    uint32_t node = PrefixTree::kRoot;
    for (size_t end = at; end < piece.size() && best[at].id >= 0;) {
      node = tree_.child(node, static_cast<uint8_t>(piece[end++]));
      if (node == PrefixTree::kNone) break;
      const int id = tree_.value(node);
      if (id < 0) continue;
      const bool user = !spec_.types.empty() && spec_.types[static_cast<size_t>(id)] == TokenType::user_defined;
      offer(at, end, score + (user ? 0 : spec_.scores[static_cast<size_t>(id)]), id);
      known = known || end - at == one;
    }
    if (!known) offer(at, at + one, score + unknown_score_, unknown);
    at += one;
  }
  const size_t first = ids.size();
  size_t unknown_end = 0;  // of a run of unknown characters, which are one
  for (size_t end = piece.size(); end > 0; end = best[end].from) {
    const Best& token = best[end];
    if (token.id != unknown) {
      ids.push_back(token.id);
      continue;
    }
    if (unknown_end == 0) unknown_end = end;
    if (token.from > 0 && best[token.from].id == unknown) continue;
    push_unknown(piece.substr(token.from, unknown_end - token.from), ids);
    unknown_end = 0;
  }
  std::reverse(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end());
}

// Backwards, as all of a piece's ids are at first.
void UnigramEncoder::push_unknown(std::string_view text, std::vector<int>& ids) const {
  const bool bytes =
      rules_.byte_fallback && std::all_of(text.begin(), text.end(), [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
  if (!bytes) return ids.push_back(rules_.unknown);
  for (size_t i = text.size(); i > 0; --i) ids.push_back(byte_ids_[static_cast<uint8_t>(text[i - 1])]);
}

}  // namespace fettle
