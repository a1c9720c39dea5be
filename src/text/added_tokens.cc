#include "text/added_tokens.h"

#include "base/base.h"
#include "text/unicode.h"

namespace fettle {
namespace {

constexpr size_t kMaxName = 1024;  // bytes that may be looked at again from every place of a text

bool is_space(const Character& c) { return (character_class(c.value) & kSpace) != 0; }

// The character that ends at `end`, which is not 0.
Character character_before(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && end - at < 4 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  const Character c = decode_character(text.substr(at));
  if (c.n_bytes != end - at) return {kInvalidByte, 1};
  return c;
}

}  // namespace

AddedTokens::AddedTokens(const TokenizerSpec& spec, const std::vector<AddedToken>& tokens, const Normalizer& normalizer)
    : tokens_(tokens), names_(tokens.size()) {
  std::vector<PrefixTree::Entry> written[3], normalized[3];
  const auto enter = [](std::vector<PrefixTree::Entry>(&lists)[3], const PrefixTree::Entry& entry, bool plain, bool all, bool as_written) {
    if (plain) lists[0].push_back(entry);
    if (all) lists[1].push_back(entry);
    if (as_written) lists[2].push_back(entry);
  };
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    const std::string& name = spec.tokens[static_cast<size_t>(token.id)];
    if (name.size() > kMaxName) {
      throw refused(spec.place, "special token " + std::to_string(token.id) + " has a name of " + std::to_string(name.size()) +
                                    " bytes, more than " + std::to_string(kMaxName));
    }
    const int index = static_cast<int>(i);
    const bool late = token.normalized && !normalizer.empty();
    enter(written, {name, index}, !late && !token.special, !late, token.special || !late);
    if (!late) continue;
    names_[i] = name;
    normalizer.apply(names_[i]);
    by_id_.emplace(token.id, i);
    enter(normalized, {names_[i], index}, !token.special, true, !token.special);
    any_normalized_ = true;
  }
  const auto build = [](std::vector<PrefixTree::Entry>(&lists)[3]) {
    return Trees{PrefixTree(std::move(lists[0])), PrefixTree(std::move(lists[1])), PrefixTree(std::move(lists[2]))};
  };
  written_ = build(written);
  normalized_ = build(normalized);
}

const std::string& AddedTokens::shown_name(int id, const TokenizerSpec& spec) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? spec.tokens[static_cast<size_t>(id)] : names_[found->second];
}

void AddedTokens::cut_written(std::string_view all, Which which, std::span<const TextSpan> quoted, Text text, Token token) const {
  const PrefixTree& tree = which == Which::plain ? written_.plain : which == Which::all ? written_.all : written_.as_written;
  cut(all, tree, quoted, text, token);
}

void AddedTokens::cut_normalized(std::string_view all, Which which, Text text, Token token) const {
  const PrefixTree& tree = which == Which::plain ? normalized_.plain : which == Which::all ? normalized_.all : normalized_.as_written;
  cut(all, tree, {}, text, token);
}

void AddedTokens::cut(std::string_view all, const PrefixTree& tree, std::span<const TextSpan> quoted, Text text, Token token) const {
  size_t done = 0;
  for (size_t at = 0; at < all.size();) {
    while (!quoted.empty() && quoted.front().end <= at) quoted = quoted.subspan(1);
    // of the names that start here the longest that is not kept from counting by a quotation
    int found = -1;
    size_t n_bytes = 0;
    uint32_t node = PrefixTree::kRoot;
    for (size_t end = at; end < all.size();) {
      node = tree.child(node, static_cast<uint8_t>(all[end++]));
      if (node == PrefixTree::kNone) break;
      const int index = tree.value(node);
      if (index < 0 || (tokens_[static_cast<size_t>(index)].special && !quoted.empty() && end > quoted.front().begin)) continue;
      found = index;
      n_bytes = end - at;
    }
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedToken& rules = tokens_[static_cast<size_t>(found)];
    size_t begin = at, end = at + n_bytes;
    at = end;
    if (rules.single_word && ((begin > 0 && is_word(character_before(all, begin).value)) ||
                              (end < all.size() && is_word(decode_character(all.substr(end)).value)))) {
      continue;
    }
    while (rules.left && begin > done) {
      const Character c = character_before(all, begin);
      if (!is_space(c)) break;
      begin -= c.n_bytes;
    }
    while (rules.right && end < all.size()) {
      const Character c = decode_character(all.substr(end));
      if (!is_space(c)) break;
      end += c.n_bytes;
    }
    if (begin > done) text(done, begin);
    token(rules.id);
    done = end;
    at = std::max(at, done);
  }
  if (done < all.size()) text(done, all.size());
}

}  // namespace fettle
