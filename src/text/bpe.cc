// Short pieces (nearly all) are merged in a small array, each round scanning for the lowest rank; long ones (a line of dashes, base64, a
// whole text, an attack) with a linked list and a heap, O(n log n). Both take the leftmost pair on ties.
// Source: Sennrich et al. 2016; Radford et al. 2019 (bytes as letters); behaviour as Hugging Face's tokenizers.
#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <queue>

#include "base/base.h"
#include "text/unicode.h"

namespace fettle {
namespace {

constexpr size_t kShort = 48;  // bytes; beyond, the heap is faster

bool is_own_letter(int byte) { return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174; }

struct Letters {
  std::array<uint16_t, 256> letter{};
  std::array<int16_t, 512> byte{};
  Letters() {
    byte.fill(-1);
    uint16_t next = 256;
    for (int b = 0; b < 256; ++b) {
      letter[b] = is_own_letter(b) ? static_cast<uint16_t>(b) : next++;
      byte[letter[b]] = static_cast<int16_t>(b);
    }
  }
};
const Letters& letters() {
  static const Letters table;
  return table;
}

}  // namespace

uint32_t letter_of_byte(uint8_t byte) noexcept { return letters().letter[byte]; }
int byte_of_letter(uint32_t letter) noexcept { return letter < 512 ? letters().byte[letter] : -1; }

void append_bytes_of_name(std::string& out, std::string_view name) {
  while (!name.empty()) {
    const Character c = decode_character(name);
    const int byte = c.value == kInvalidByte ? -1 : byte_of_letter(c.value);
    if (byte >= 0) {
      out.push_back(static_cast<char>(byte));
    } else {
      out.append(name.substr(0, c.n_bytes));
    }
    name.remove_prefix(c.n_bytes);
  }
}

struct BytePairEncoder::Work {
  std::vector<int> symbols;
  std::vector<MergeTable::Merge> merges;  // merges[i] joins symbols[i] and symbols[i + 1]
  std::string name;
};

BytePairEncoder::BytePairEncoder(const ModelRules& rules, const TokenizerSpec& spec, const TokenTable& table,
                                 const std::vector<bool>& writable)
    : rules_(rules), spec_(spec), table_(table), writable_(writable), merges_(spec.merges.size()) {
  std::string name;
  for (int b = 0; b < 256; ++b) {
    name.clear();
    append_utf8(name, letter_of_byte(static_cast<uint8_t>(b)));
    letter_ids_[b] = table_.find(name);
    byte_ids_[b] = table_.find(byte_token_name(static_cast<uint8_t>(b)));
  }
  // of equal merges the table keeps the one that is added first
  const size_t n = spec.merges.size();
  for (size_t i = 0; i < n; ++i) {
    const size_t rank = rules.last_merge ? n - 1 - i : i;
    add_merge(spec.merges[rank], static_cast<int>(rank), name);
  }
}

// A name that stands inside of a word loses its mark when it is merged to the name before it.
void BytePairEncoder::add_merge(const std::string& merge, int rank, std::string& joined) {
  const size_t zero = merge.find('\0');
  const size_t space = zero != std::string::npos ? zero : merge.find(' ', 1);
  if (space == std::string::npos || space == 0 || space + 1 >= merge.size() || space + 1 + rules_.inside.size() > merge.size()) {
    throw refused(spec_.place, "merge " + std::to_string(rank) + " is not two tokens: '" + merge + "'");
  }
  const std::string_view left = std::string_view(merge).substr(0, space), right = std::string_view(merge).substr(space + 1);
  joined.assign(left).append(right.substr(rules_.inside.size()));
  const int a = table_.find(left), b = table_.find(right), ab = table_.find(joined);
  if (a < 0 || b < 0 || ab < 0) throw refused(spec_.place, "merge " + std::to_string(rank) + " names an unknown token: '" + merge + "'");
  merges_.add(a, b, {rank, ab});
}

int BytePairEncoder::whole(std::string_view piece, std::string& name) const {
  if (rules_.bytes) {
    name.clear();
    for (const char c : piece) append_utf8(name, letter_of_byte(static_cast<uint8_t>(c)));
    piece = name;
  }
  const int id = table_.find(piece);
  return id >= 0 && writable_[static_cast<size_t>(id)] ? id : -1;
}

void BytePairEncoder::encode(std::string_view piece, std::vector<int>& ids) const {
  thread_local Work work;
  if (rules_.ignore_merges) {
    if (const int id = whole(piece, work.name); id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  work.symbols.clear();
  if (rules_.bytes && rules_.unknown < 0 && !rules_.byte_fallback && rules_.inside.empty() && rules_.ending.empty()) {
    symbols_of_bytes(piece, work);
  } else {
    symbols(piece, work);
  }
  if (work.symbols.size() > kShort) {
    merge_long(work);
  } else if (work.symbols.size() > 1) {
    merge_short(work);
  }
  ids.insert(ids.end(), work.symbols.begin(), work.symbols.end());
}

void BytePairEncoder::symbols_of_bytes(std::string_view piece, Work& work) const {
  for (const char c : piece) {
    const int id = letter_ids_[static_cast<uint8_t>(c)];
    if (id >= 0) work.symbols.push_back(id);
  }
}

void BytePairEncoder::symbols(std::string_view piece, Work& work) const {
  bool unknown = false;  // one waits to be written: the reference writes byte tokens before it
  for (size_t at = 0; at < piece.size();) {
    const size_t n = rules_.bytes ? 1 : decode_character(piece.substr(at)).n_bytes;
    std::string& name = work.name;
    name.assign(at == 0 ? std::string_view{} : rules_.inside);
    if (rules_.bytes) {
      append_utf8(name, letter_of_byte(static_cast<uint8_t>(piece[at])));
    } else {
      name += piece.substr(at, n);
    }
    at += n;
    if (at == piece.size()) name += rules_.ending;
    if (const int id = table_.find(name); id >= 0 && writable_[static_cast<size_t>(id)]) {
      if (unknown) work.symbols.push_back(rules_.unknown);
      unknown = false;
      work.symbols.push_back(id);
    } else if (!(rules_.byte_fallback && add_byte_tokens(name, work.symbols)) && rules_.unknown >= 0) {
      if (unknown && !rules_.fuse_unknown) work.symbols.push_back(rules_.unknown);
      unknown = true;
    }
  }
  if (unknown) work.symbols.push_back(rules_.unknown);
}

bool BytePairEncoder::add_byte_tokens(std::string_view text, std::vector<int>& ids) const {
  for (const char c : text) {
    if (byte_ids_[static_cast<uint8_t>(c)] < 0) return false;
  }
  for (const char c : text) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
  return true;
}

void BytePairEncoder::merge_short(Work& work) const {
  auto& symbols = work.symbols;
  auto& merges = work.merges;
  merges.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) merges.push_back(merges_.find(symbols[i], symbols[i + 1]));
  for (;;) {
    // a missing merge has rank -1, which is the largest unsigned number
    size_t best = merges.size();
    uint32_t best_rank = UINT32_MAX;
    for (size_t i = 0; i < merges.size(); ++i) {
      const auto rank = static_cast<uint32_t>(merges[i].rank);
      if (rank < best_rank) {
        best_rank = rank;
        best = i;
      }
    }
    if (best == merges.size()) return;
    symbols[best] = merges[best].id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    merges.erase(merges.begin() + static_cast<std::ptrdiff_t>(best));
    if (best > 0) merges[best - 1] = merges_.find(symbols[best - 1], symbols[best]);
    if (best < merges.size()) merges[best] = merges_.find(symbols[best], symbols[best + 1]);
  }
}

void BytePairEncoder::merge_long(Work& work) const {
  struct Node {
    int symbol, previous, next;
  };
  struct Candidate {
    int rank, left, id;
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  const int n = static_cast<int>(work.symbols.size());
  std::vector<Node> nodes;
  nodes.reserve(work.symbols.size());
  for (int i = 0; i < n; ++i) nodes.push_back({work.symbols[static_cast<size_t>(i)], i - 1, i + 1 < n ? i + 1 : -1});
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int left) {
    if (left < 0 || nodes[left].next < 0) return;
    const auto merge = merges_.find(nodes[left].symbol, nodes[nodes[left].next].symbol);
    if (merge.rank >= 0) queue.push({merge.rank, left, merge.id});
  };
  for (int i = 0; i + 1 < n; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Node& left = nodes[top.left];
    if (left.symbol < 0 || left.next < 0) continue;
    Node& right = nodes[left.next];
    const auto merge = merges_.find(left.symbol, right.symbol);
    if (merge.rank != top.rank) continue;  // one of the two has been merged since
    right.symbol = -1;
    left.symbol = merge.id;
    left.next = right.next;
    if (left.next >= 0) nodes[left.next].previous = top.left;
    offer(left.previous);
    offer(top.left);
  }
  work.symbols.clear();
  for (int i = 0; i >= 0; i = nodes[i].next) work.symbols.push_back(nodes[i].symbol);
}

}  // namespace fettle
