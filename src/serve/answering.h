// From an Ask to bytes on the wire, whole or as server-sent events; the routes say only how an answer is written down.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>

#include "serve/ask.h"
#include "serve/exchange.h"
#include "serve/generation.h"

namespace fettle {

// How a route writes answers. One object per HTTP request; called in the order of the events.
class AnswerShape {
 public:
  virtual ~AnswerShape() = default;
  virtual const char* id_prefix() const = 0;
  virtual const char* object(bool chunk) const = 0;
  // The chunk that opens an answer; null: none.
  virtual Json opening(int answer) = 0;
  // The log-probabilities of the event's tokens; null: none asked or none there. Objects of arrays, so that they can be joined.
  virtual Json log_probs(const AnswerEvent& event) = 0;
  // An element of a chunk's "choices". finish: "" while it goes on.
  virtual Json delta(int answer, const std::string& text, const Json& log_probs, const std::string& finish) = 0;
  // An element of the whole answer's "choices".
  virtual Json whole(int answer, const std::string& text, const Json& log_probs, const std::string& finish) = 0;
};

// Admits, runs and sends. Throws ApiError until it has begun to send.
boost::asio::awaitable<void> answer(Exchange& exchange, Ask ask, AnswerShape& shape);

}  // namespace fettle
