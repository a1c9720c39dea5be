// The tokenizer behind one door: checks what a file claims, cuts special tokens out of texts, and turns ids back into bytes. The models
// themselves are in bpe.cc and spm.cc. Special tokens: the leftmost is taken first, of those that start together the longest.
// Not handled: WordPiece, unigram, and normalizers.
#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/base.h"
#include "text/bpe.h"
#include "text/spm.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace fettle {
namespace {

constexpr size_t kMaxTokens = 1 << 24;
constexpr size_t kMaxTextBytes = size_t{1} << 30;

// Names that publishers give to tokens after which a turn, or the text, is over.
constexpr std::string_view kEndNames[] = {"<|im_end|>",
                                          "<|eot_id|>",
                                          "<|eom_id|>",
                                          "<end_of_turn>",
                                          "<|end|>",
                                          "<|endoftext|>",
                                          "<|end_of_text|>",
                                          "<|return|>",
                                          "<|call|>",
                                          "<eos>",
                                          "</s>",
                                          "<EOT>",
                                          "[EOS]",
                                          "<|END_OF_TURN_TOKEN|>",
                                          "<|end_of_turn|>",
                                          "<|end_of_role|>",
                                          "<end_of_utterance>",
                                          "<｜end▁of▁sentence｜>",
                                          "<turn|>"};

[[noreturn]] void bad(const TokenizerSpec& spec, const std::string& what) { throw refused(spec.place, what); }

void check_spec(TokenizerSpec& spec) {
  const size_t n = spec.tokens.size();
  if (n == 0) bad(spec, "tokenizer has no tokens");
  if (n > kMaxTokens) bad(spec, "tokenizer has " + std::to_string(n) + " tokens, more than 2^24");
  if (!spec.types.empty() && spec.types.size() != n) {
    bad(spec, "tokenizer has " + std::to_string(n) + " tokens but " + std::to_string(spec.types.size()) + " token types");
  }
  for (size_t i = 0; i < spec.types.size(); ++i) {
    const int type = static_cast<int>(spec.types[i]);
    if (type < 0 || type > 6) bad(spec, "token " + std::to_string(i) + " has the unknown type " + std::to_string(type));
    if (type == 0) spec.types[i] = TokenType::normal;
  }
  std::vector<std::pair<const char*, int>> ids = {
      {"bos", spec.bos}, {"eos", spec.eos}, {"unknown", spec.unknown}, {"pad", spec.pad}, {"eot", spec.eot}};
  for (const int id : spec.ends) ids.push_back({"end", id});
  for (const auto& [name, id] : ids) {
    if (id < -1 || id >= static_cast<int>(n)) {
      bad(spec, std::string(name) + " token " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(n));
    }
  }
}

}  // namespace

struct Tokenizer::State {
  explicit State(TokenizerSpec given) : spec(std::move(given)), table(spec.tokens) {}

  TokenizerSpec spec;
  TokenTable table;
  std::optional<BytePairEncoder> bpe;
  std::optional<SentencePieceEncoder> spm;
  std::string pieces;              // all tokens' bytes, one after another
  std::vector<uint32_t> piece_at;  // size() + 1 offsets into pieces
  std::vector<bool> ends;
  // Special tokens by first byte: their lengths, longest first. The table tells whether a text of that length is one.
  std::array<std::vector<uint32_t>, 256> special_lengths, user_lengths;
  bool phi3 = false;  // its special tokens swallow the white space that follows them, but for three

  TokenType type(int id) const { return spec.types.empty() ? TokenType::normal : spec.types[static_cast<size_t>(id)]; }
  void find_ends();
  void build_pieces();
  void build_specials();
  bool strips_after(int id) const {
    const std::string& name = spec.tokens[static_cast<size_t>(id)];
    return phi3 && name != "<unk>" && name != "<s>" && name != "<|endoftext|>";
  }
  // Control tokens are not found where they would reach into `plain_from` or beyond.
  int special_at(std::string_view text, size_t at, bool control, size_t plain_from = SIZE_MAX) const;
  void encode(std::string_view text, bool control, std::span<const TextSpan> quoted, std::vector<int>& ids) const;
  void encode_plain(std::string_view text, bool at_start, std::vector<int>& ids) const;
};

// Which tokens end an answer. Where a file calls such a token user-defined, so that plain text could spell it, it becomes a control token:
// nobody's text may end a turn.
void Tokenizer::State::find_ends() {
  ends.assign(spec.tokens.size(), false);
  for (const int id : {spec.eos, spec.eot}) {
    if (id >= 0) ends[static_cast<size_t>(id)] = true;
  }
  for (const int id : spec.ends) {
    if (id >= 0) ends[static_cast<size_t>(id)] = true;
  }
  // In gpt-oss's format <|end|> closes a part of an answer, not the answer.
  const bool parts = table.find("<|return|>") >= 0 && table.find("<|call|>") >= 0;
  for (const std::string_view name : kEndNames) {
    const int id = table.find(name);
    if (id < 0) continue;
    if (type(id) == TokenType::user_defined) spec.types[static_cast<size_t>(id)] = TokenType::control;
    if (type(id) == TokenType::control && !(parts && name == "<|end|>")) ends[static_cast<size_t>(id)] = true;
  }
}

void Tokenizer::State::build_pieces() {
  const size_t n = spec.tokens.size();
  piece_at.reserve(n + 1);
  for (size_t i = 0; i < n; ++i) {
    piece_at.push_back(static_cast<uint32_t>(pieces.size()));
    const std::string& name = spec.tokens[i];
    switch (type(static_cast<int>(i))) {
      case TokenType::control:
      case TokenType::unknown:
      case TokenType::unused:
        break;
      case TokenType::user_defined:
        pieces += name;
        break;
      case TokenType::byte:
        if (const int byte = byte_of_token_name(name); byte >= 0) pieces.push_back(static_cast<char>(byte));
        break;
      case TokenType::normal:
        if (bpe) {
          append_bytes_of_name(pieces, name);
        } else {
          append_text_of_name(pieces, name);
        }
    }
    if (pieces.size() > UINT32_MAX) bad(spec, "the tokens' names are more than 4 GiB");
  }
  piece_at.push_back(static_cast<uint32_t>(pieces.size()));
}

void Tokenizer::State::build_specials() {
  for (size_t i = 0; i < spec.types.size(); ++i) {
    const TokenType kind = spec.types[i];
    const std::string& name = spec.tokens[i];
    const bool user = kind == TokenType::user_defined;
    if (name.empty() || !(user || kind == TokenType::control || kind == TokenType::unknown)) continue;
    const auto first = static_cast<uint8_t>(name[0]);
    special_lengths[first].push_back(static_cast<uint32_t>(name.size()));
    if (user) user_lengths[first].push_back(static_cast<uint32_t>(name.size()));
  }
  for (auto* lists : {&special_lengths, &user_lengths}) {
    for (auto& lengths : *lists) {
      std::sort(lengths.begin(), lengths.end(), std::greater<>());
      lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
    }
  }
  phi3 = spm && table.find("<|placeholder1|>") >= 0 && table.find("<|assistant|>") >= 0;
}

int Tokenizer::State::special_at(std::string_view text, size_t at, bool control, size_t plain_from) const {
  const auto& lengths = (control ? special_lengths : user_lengths)[static_cast<uint8_t>(text[at])];
  for (const uint32_t n : lengths) {
    if (n > text.size() - at) continue;
    const int id = table.find(text.substr(at, n));
    if (id < 0) continue;
    const TokenType kind = type(id);
    if (kind == TokenType::user_defined) return id;
    if (control && at + n <= plain_from && (kind == TokenType::control || kind == TokenType::unknown)) return id;
  }
  return -1;
}

void Tokenizer::State::encode(std::string_view text, bool control, std::span<const TextSpan> quoted, std::vector<int>& ids) const {
  if (text.size() > kMaxTextBytes) bad(spec, "text of " + std::to_string(text.size()) + " bytes is too long to be tokenized at once");
  size_t plain = 0;
  bool at_start = true;
  for (size_t at = 0; at < text.size();) {
    while (!quoted.empty() && quoted.front().end <= at) quoted = quoted.subspan(1);
    const int id = special_at(text, at, control, quoted.empty() ? SIZE_MAX : quoted.front().begin);
    if (id < 0) {
      ++at;
      continue;
    }
    encode_plain(text.substr(plain, at - plain), at_start, ids);
    ids.push_back(id);
    at_start = true;
    at += spec.tokens[static_cast<size_t>(id)].size();
    while (strips_after(id) && at < text.size()) {
      const Character c = decode_character(text.substr(at));
      if ((character_class(c.value) & kSpace) == 0) break;
      at += c.n_bytes;
    }
    plain = at;
  }
  encode_plain(text.substr(plain), at_start, ids);
}

void Tokenizer::State::encode_plain(std::string_view text, bool at_start, std::vector<int>& ids) const {
  if (bpe) {
    bpe->encode(text, ids);
  } else {
    spm->encode(text, at_start, ids);
  }
}

Tokenizer::Tokenizer(TokenizerSpec spec) {
  check_spec(spec);
  state_ = std::make_unique<State>(std::move(spec));
  State& s = *state_;
  if (s.spec.model == "gpt2") {
    s.bpe.emplace(s.spec, s.table);
  } else if (s.spec.model == "llama") {
    s.spm.emplace(s.spec, s.table);
  } else {
    throw refused(s.spec.place, "unknown tokenizer model '" + s.spec.model + "'",
                  "fettle reads 'gpt2' (byte-level BPE) and 'llama' (SentencePiece BPE)");
  }
  s.find_ends();
  s.build_pieces();
  s.build_specials();
}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

std::vector<int> Tokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  state_->encode(text, false, {}, ids);
  return ids;
}

std::vector<int> Tokenizer::encode_chat(std::string_view text, std::span<const TextSpan> quoted) const {
  std::vector<int> ids;
  state_->encode(text, true, quoted, ids);
  return ids;
}

std::vector<int> Tokenizer::encode_special(std::string_view text, bool begin_end) const {
  std::vector<int> ids;
  if (begin_end && state_->spec.add_bos && state_->spec.bos >= 0) ids.push_back(state_->spec.bos);
  state_->encode(text, true, {}, ids);
  if (begin_end && state_->spec.add_eos && state_->spec.eos >= 0) ids.push_back(state_->spec.eos);
  return ids;
}

std::string Tokenizer::decode(std::span<const int> ids, bool control) const {
  std::string out;
  for (const int id : ids) {
    CHECK(id >= 0 && id < size(), "token id out of range");
    const TokenType kind = state_->type(id);
    if (control && (kind == TokenType::control || kind == TokenType::unknown)) {
      out += name(id);
    } else {
      out += piece(id);
    }
  }
  if (state_->spm && state_->spec.add_space_prefix && out.starts_with(' ')) out.erase(0, 1);
  return out;
}

std::string_view Tokenizer::piece(int id) const {
  CHECK(id >= 0 && id < size(), "token id out of range");
  const auto at = static_cast<size_t>(id);
  return std::string_view(state_->pieces).substr(state_->piece_at[at], state_->piece_at[at + 1] - state_->piece_at[at]);
}

const std::string& Tokenizer::name(int id) const {
  CHECK(id >= 0 && id < size(), "token id out of range");
  return state_->spec.tokens[static_cast<size_t>(id)];
}

int Tokenizer::find(std::string_view name) const { return state_->table.find(name); }
int Tokenizer::size() const { return static_cast<int>(state_->spec.tokens.size()); }
bool Tokenizer::is_control(int id) const { return id >= 0 && id < size() && state_->type(id) == TokenType::control; }
bool Tokenizer::is_end(int id) const { return id >= 0 && id < size() && state_->ends[static_cast<size_t>(id)]; }
const TokenizerSpec& Tokenizer::spec() const { return state_->spec; }

int common_prefix(std::span<const int> a, std::span<const int> b) {
  return int(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace fettle
