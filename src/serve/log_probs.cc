// Source: OpenAI's API reference. Tokens that are pieces of a character are "bytes:\xe2\x80" in a completion's lists, as OpenAI writes
// them, so that different tokens keep different names there; chat has the bytes beside the text.
#include "serve/log_probs.h"

#include <fmt/format.h>

namespace fettle {
namespace {

// -inf is no JSON number; OpenAI's API says -9999.
double finite(float log_prob) { return log_prob > -9999.0f ? double(log_prob) : -9999.0; }

std::string completion_token(const Tokenizer& tokenizer, int id) {
  std::string bytes = token_bytes(tokenizer, id);
  if (valid_utf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (char c : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return name;
}

Json bytes_of(const Tokenizer& tokenizer, int id) {
  Json bytes = Json::array();
  for (char c : token_bytes(tokenizer, id)) bytes.push_back(int(static_cast<unsigned char>(c)));
  return bytes;
}

size_t characters(std::string_view bytes) {
  size_t n = 0;
  for (char c : bytes) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

}  // namespace

std::string token_bytes(const Tokenizer& tokenizer, int id) {
  const std::string_view piece = tokenizer.piece(id);
  return piece.empty() ? tokenizer.name(id) : std::string(piece);
}

std::string token_text(const Tokenizer& tokenizer, int id) {
  Utf8Stream stream;
  std::string text = stream.push(token_bytes(tokenizer, id));
  return text + stream.finish();
}

Json chat_log_prob(const Tokenizer& tokenizer, const Piece& piece, int top) {
  const auto entry = [&](int id, float log_prob) {
    return Json{{"token", token_text(tokenizer, id)}, {"logprob", finite(log_prob)}, {"bytes", bytes_of(tokenizer, id)}};
  };
  Json json = entry(piece.id, piece.log_prob);
  Json list = Json::array();
  for (size_t i = 0; i < piece.top.size() && i < size_t(top); i++) list.push_back(entry(piece.top[i].id, piece.top[i].log_prob));
  json["top_logprobs"] = std::move(list);
  return json;
}

void CompletionLogProbs::add(const Tokenizer& tokenizer, int id, const Piece* piece, int top, size_t& offset) {
  json_["tokens"].push_back(completion_token(tokenizer, id));
  json_["token_logprobs"].push_back(piece ? Json(finite(piece->log_prob)) : Json(nullptr));
  Json best = nullptr;
  if (piece && top > 0) {
    best = Json::object();
    for (size_t i = 0; i < piece->top.size() && i < size_t(top); i++) {
      best[completion_token(tokenizer, piece->top[i].id)] = finite(piece->top[i].log_prob);
    }
    best[completion_token(tokenizer, id)] = finite(piece->log_prob);
  }
  json_["top_logprobs"].push_back(std::move(best));
  json_["text_offset"].push_back(offset);
  offset += characters(token_bytes(tokenizer, id));
}

}  // namespace fettle
