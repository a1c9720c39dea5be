// One request on its way through the engine.
#pragma once
#include <functional>

#include "engine/answer_text.h"
#include "engine/drafter.h"
#include "engine/sampler.h"

namespace fettle {

struct Session {
  Session(uint64_t id, Request r, std::function<void(const Piece&)> on_piece)
      : id(id),
        request(std::move(r)),
        on_piece(std::move(on_piece)),
        tokens(request.prompt),
        sampler(request.sampling),
        text(request.stop) {}
  uint64_t id;
  Request request;
  std::function<void(const Piece&)> on_piece;
  std::vector<int> tokens;  // prompt and answer
  int slot = -1;            // its sequence in the KV cache; -1: waiting
  int fed = 0;              // tokens whose keys and values are there
  int cached = -1;          // prompt tokens that were there from the start; -1: not yet placed
  int scored = 1;           // prompt tokens whose log-probabilities were told (the first one has none)
  Sampler sampler;
  std::vector<int> guesses;       // read by this step behind the last token
  Drafter* guessed_by = nullptr;  // who made them
  AnswerText text;

  int prompt_tokens() const { return int(request.prompt.size()); }
  int generated() const { return int(tokens.size()) - prompt_tokens(); }
  int pending() const { return int(tokens.size()) - fed; }
  std::span<const int> answer() const { return std::span(tokens).subspan(request.prompt.size()); }

  // What a step found out: scored prompt tokens, then the new token and those that guesses got right. Filled by the pool's threads, told by
  // the engine's.
  std::vector<Piece> found;
};

}  // namespace fettle
