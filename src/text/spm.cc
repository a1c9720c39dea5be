// SentencePiece BPE over the characters of a text with ' ' written as U+2581; a linked list and a heap, O(n log n). What is no token in the
// end becomes byte tokens. Source: Kudo and Richardson 2018, as llama.cpp reads its vocabularies. Not handled: unigram models, and
// normalizers other than the space in front (their character maps are not in GGUF files).
#include "text/spm.h"

#include <algorithm>
#include <cmath>
#include <queue>

#include "base/base.h"
#include "text/unicode.h"

namespace fettle {
namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";

}  // namespace

struct SentencePieceEncoder::Symbol {
  uint32_t start, bytes;  // of the escaped text; bytes == 0: merged away
  int previous, next;
};

SentencePieceEncoder::SentencePieceEncoder(const TokenizerSpec& spec, const TokenTable& table) : spec_(spec), table_(table) {
  if (spec.scores.size() != spec.tokens.size()) {
    throw refused(spec.place,
                  "tokenizer has " + std::to_string(spec.tokens.size()) + " tokens but " + std::to_string(spec.scores.size()) + " scores");
  }
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (std::isnan(spec.scores[id])) throw refused(spec.place, "score of token " + std::to_string(id) + " is not a number");
    longest_ = std::max(longest_, spec.tokens[id].size());
  }
  bool all_bytes = true;
  for (int b = 0; b < 256; ++b) {
    byte_ids_[b] = table.find(byte_token_name(static_cast<uint8_t>(b)));
    all_bytes = all_bytes && byte_ids_[b] >= 0;
  }
  if (!all_bytes && spec.unknown < 0) throw refused(spec.place, "tokenizer lacks byte tokens and has no unknown token");
}

// Only ordinary tokens come out of text: the name of a control or byte token spelled out in a text is text.
int SentencePieceEncoder::find_text(std::string_view text) const noexcept {
  const int id = text.size() <= longest_ ? table_.find(text) : -1;
  if (id < 0 || spec_.types.empty()) return id;
  const TokenType type = spec_.types[static_cast<size_t>(id)];
  return type == TokenType::normal || type == TokenType::user_defined ? id : -1;
}

void SentencePieceEncoder::encode(std::string_view text, std::vector<int>& ids) const {
  if (text.empty()) return;
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2 + 4);
  if (spec_.add_space_prefix) escaped += kBlank;
  for (const char c : text) {
    if (c == ' ') {
      escaped += kBlank;
    } else {
      escaped.push_back(c);
    }
  }
  std::vector<Symbol> symbols;
  for (size_t at = 0; at < escaped.size();) {
    const uint32_t n = decode_character(std::string_view(escaped).substr(at)).n_bytes;
    const int i = static_cast<int>(symbols.size());
    symbols.push_back({static_cast<uint32_t>(at), n, i - 1, i + 1});
    at += n;
  }
  symbols.back().next = -1;
  merge(escaped, symbols);
  for (int i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    const Symbol& symbol = symbols[static_cast<size_t>(i)];
    const std::string_view piece = std::string_view(escaped).substr(symbol.start, symbol.bytes);
    if (const int id = find_text(piece); id >= 0) {
      ids.push_back(id);
    } else {
      push_bytes(piece, ids);
    }
  }
}

void SentencePieceEncoder::merge(std::string_view text, std::vector<Symbol>& symbols) const {
  struct Candidate {
    double score;
    int left;
    uint32_t bytes;
    bool operator<(const Candidate& other) const { return score != other.score ? score < other.score : left > other.left; }
  };
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int left) {
    if (left < 0 || symbols[left].next < 0) return;
    const uint32_t bytes = symbols[left].bytes + symbols[symbols[left].next].bytes;
    const int id = find_text(text.substr(symbols[left].start, bytes));
    if (id >= 0) queue.push({spec_.scores[static_cast<size_t>(id)], left, bytes});
  };
  for (int i = 0; i + 1 < static_cast<int>(symbols.size()); ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.left];
    if (left.bytes == 0 || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    if (left.bytes + right.bytes != top.bytes) continue;  // one of the two has been merged since
    left.bytes = top.bytes;
    right.bytes = 0;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = top.left;
    offer(left.previous);
    offer(top.left);
  }
}

void SentencePieceEncoder::push_bytes(std::string_view text, std::vector<int>& ids) const {
  const bool known = std::all_of(text.begin(), text.end(), [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
  if (!known) {
    ids.push_back(spec_.unknown);
    return;
  }
  for (const char c : text) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
}

}  // namespace fettle
