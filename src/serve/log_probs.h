// Log-probabilities as OpenAI's two APIs write them.
#pragma once
#include <string>
#include <vector>

#include "serve/answering.h"

namespace fettle {

// The bytes of a token: of a control token, its name.
std::string token_bytes(const Tokenizer& tokenizer, int id);
// The same as text; broken UTF-8 as U+FFFD.
std::string token_text(const Tokenizer& tokenizer, int id);

// An entry of chat's "content": {token, logprob, bytes, top_logprobs}.
Json chat_log_prob(const Tokenizer& tokenizer, const Piece& piece, int top);

// The four arrays of a completion: tokens, token_logprobs, top_logprobs, text_offset. Offsets count characters of the answer's text.
class CompletionLogProbs {
 public:
  CompletionLogProbs()
      : json_{{"tokens", Json::array()},
              {"token_logprobs", Json::array()},
              {"top_logprobs", Json::array()},
              {"text_offset", Json::array()}} {}
  // The first token of a prompt has no log-probability: piece nullptr. offset moves on by the token's characters.
  void add(const Tokenizer& tokenizer, int id, const Piece* piece, int top, size_t& offset);
  Json take() { return std::move(json_); }

 private:
  Json json_;
};

}  // namespace fettle
