// The tokenizer behind one door: checks what a file claims, and puts a text through its parts: added tokens cut out, normalized, cut into
// pieces, each encoded by the model; and ids back into bytes.
#include "text/tokenizer.h"

#include <algorithm>
#include <optional>
#include <variant>

#include "base/base.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/gguf_rules.h"
#include "text/normalizer.h"
#include "text/splitter.h"
#include "text/spm.h"
#include "text/token_decoder.h"
#include "text/unigram.h"
#include "text/vocabulary.h"
#include "text/word_piece.h"

namespace fettle {
namespace {

constexpr size_t kMaxTokens = 1 << 24;
constexpr size_t kMaxTextBytes = size_t{1} << 30, kMaxPieceBytes = size_t{1} << 30;

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
  explicit State(TokenizerSpec given)
      : spec(std::move(given)),
        table(spec.tokens),
        rules(spec.rules ? *spec.rules : rules_of_gguf(spec)),
        normalizer(rules.normalizer, spec.place),
        splitter(rules.splits, spec.place),
        decoder(rules.decoder, spec.place) {
    find_ends();
    writable = writable_tokens(spec, rules);
    rules.model.bytes = splitter.ends_in_letters();
    make_model();
    added.emplace(spec, rules.added, normalizer);
    build_pieces();
  }

  TokenizerSpec spec;
  TokenTable table;
  TokenRules rules;
  Normalizer normalizer;
  Splitter splitter;
  TokenDecoder decoder;
  std::vector<bool> writable;  // by the model, out of a text
  std::variant<std::monostate, BytePairEncoder, SentencePieceEncoder, UnigramEncoder, WordEncoder> model;
  std::optional<AddedTokens> added;
  std::string pieces;              // all tokens' bytes, one after another
  std::vector<uint32_t> piece_at;  // size() + 1 offsets into pieces
  std::vector<bool> ends;

  TokenType type(int id) const { return spec.types.empty() ? TokenType::normal : spec.types[static_cast<size_t>(id)]; }
  bool silent(int id) const { return type(id) == TokenType::control || type(id) == TokenType::unknown; }
  void find_ends();
  void make_model();
  void build_pieces();
  void append_piece(int id);
  void encode(std::string_view text, bool special, std::span<const TextSpan> quoted, std::vector<int>& ids) const;
  void encode_part(std::string_view text, bool at_start, AddedTokens::Which which, std::vector<int>& ids) const;
  void encode_plain(std::string_view text, bool at_start, std::vector<int>& ids) const;
  void encode_piece(std::string_view piece, std::vector<int>& ids) const;
  std::string decode_chain(std::span<const int> ids, bool control) const;
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
    if (type(id) == TokenType::user_defined) {
      spec.types[static_cast<size_t>(id)] = TokenType::control;
      for (AddedToken& token : rules.added) token.special = token.special || token.id == id;
    }
    if (type(id) == TokenType::control && !(parts && name == "<|end|>")) ends[static_cast<size_t>(id)] = true;
  }
}

void Tokenizer::State::make_model() {
  switch (rules.model.kind) {
    case ModelRules::Kind::bpe:
      model.emplace<BytePairEncoder>(rules.model, spec, table, writable);
      return;
    case ModelRules::Kind::sentence_piece:
      model.emplace<SentencePieceEncoder>(spec, table);
      return;
    case ModelRules::Kind::unigram:
      model.emplace<UnigramEncoder>(rules.model, spec, table, writable);
      return;
    case ModelRules::Kind::word_piece:
    case ModelRules::Kind::word_level:
      model.emplace<WordEncoder>(rules.model, spec, table, writable);
      return;
  }
}

void Tokenizer::State::build_pieces() {
  const int n = static_cast<int>(spec.tokens.size());
  piece_at.reserve(spec.tokens.size() + 1);
  for (int id = 0; id < n; ++id) {
    piece_at.push_back(static_cast<uint32_t>(pieces.size()));
    append_piece(id);
    if (pieces.size() > kMaxPieceBytes) bad(spec, "the tokens' texts are more than " + std::to_string(kMaxPieceBytes >> 20) + " MiB");
  }
  piece_at.push_back(static_cast<uint32_t>(pieces.size()));
}

void Tokenizer::State::append_piece(int id) {
  const std::string& name = spec.tokens[static_cast<size_t>(id)];
  const TokenType kind = type(id);
  if (silent(id) || kind == TokenType::unused) return;
  if (rules.by_pieces && kind == TokenType::user_defined) {
    pieces += name;
  } else if (kind == TokenType::byte) {
    if (const int byte = byte_of_token_name(name); byte >= 0) pieces.push_back(static_cast<char>(byte));
  } else if (rules.by_pieces && rules.model.bytes) {
    append_bytes_of_name(pieces, name);
  } else {
    std::string piece = name;
    decoder.piece(piece);
    pieces += piece;
  }
}

// The reference's order: tokens that are found in the text as it was written; then each part between them is normalized, and tokens that
// are found in normalized text cut out of it.
void Tokenizer::State::encode(std::string_view text, bool special, std::span<const TextSpan> quoted, std::vector<int>& ids) const {
  if (text.size() > kMaxTextBytes) bad(spec, "text of " + std::to_string(text.size()) + " bytes is too long to be tokenized at once");
  using Which = AddedTokens::Which;
  const Which which = !special ? Which::plain : quoted.empty() ? Which::all : Which::as_written;
  added->cut_written(
      text, which, quoted, [&](size_t begin, size_t end) { encode_part(text.substr(begin, end - begin), begin == 0, which, ids); },
      [&](int id) { ids.push_back(id); });
}

void Tokenizer::State::encode_part(std::string_view text, bool at_start, AddedTokens::Which which, std::vector<int>& ids) const {
  if (normalizer.empty()) return encode_plain(text, at_start, ids);
  std::string normalized(text);
  at_start = normalizer.apply(normalized) && at_start;
  if (!added->any_normalized()) return encode_plain(normalized, at_start, ids);
  const std::string_view all = normalized;
  added->cut_normalized(
      all, which, [&](size_t begin, size_t end) { encode_plain(all.substr(begin, end - begin), at_start && begin == 0, ids); },
      [&](int id) { ids.push_back(id); });
}

void Tokenizer::State::encode_plain(std::string_view text, bool at_start, std::vector<int>& ids) const {
  splitter.split(text, at_start, [&](std::string_view piece) { encode_piece(piece, ids); });
}

void Tokenizer::State::encode_piece(std::string_view piece, std::vector<int>& ids) const {
  std::visit(
      [&](const auto& encoder) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(encoder)>, std::monostate>) encoder.encode(piece, ids);
      },
      model);
}

std::string Tokenizer::State::decode_chain(std::span<const int> ids, bool control) const {
  std::vector<std::string> names;
  for (const int id : ids) {
    CHECK(id >= 0 && static_cast<size_t>(id) < spec.tokens.size(), "token id out of range");
    if (control || !silent(id)) names.push_back(added->shown_name(id, spec));
  }
  if (!rules.joined_by_spaces) return decoder.decode(std::move(names));
  std::string out;
  for (const std::string& name : names) out.append(out.empty() ? "" : " ").append(name);
  return out;
}

Tokenizer::Tokenizer(TokenizerSpec spec) {
  check_spec(spec);
  state_ = std::make_unique<State>(std::move(spec));
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
  if (begin_end) ids = state_->rules.begin;
  state_->encode(text, true, {}, ids);
  if (begin_end) ids.insert(ids.end(), state_->rules.end.begin(), state_->rules.end.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int> ids, bool control) const {
  const State& s = *state_;
  if (!s.rules.by_pieces) return s.decode_chain(ids, control);
  std::string out;
  for (const int id : ids) {
    CHECK(id >= 0 && id < size(), "token id out of range");
    if (control && s.silent(id)) {
      out += name(id);
    } else {
      out += piece(id);
    }
  }
  if (!s.rules.model.bytes && s.spec.add_space_prefix && out.starts_with(' ')) out.erase(0, 1);
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
