// What the two completion routes have in common: the sampling fields of a request and how they become the engine's requests.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "serve/context.h"
#include "serve/json_door.h"

namespace fettle {

// A request to the model, read and checked; one engine request per answer.
struct Ask {
  Served* model = nullptr;
  std::vector<Request> requests;
  size_t answers = 0;     // requests.size(), also after they were handed to the engine
  int prompt_tokens = 0;  // of each prompt once
  bool stream = false, include_usage = false;
  bool log_probs = false;
};

// Fields that both routes read; the prompt and max_tokens come from the route.
struct AskFields {
  Request common;
  int n = 1;
  bool stream = false, include_usage = false;
};
AskFields read_common(const Fields& fields, const Served& model, float default_temperature);

// A list of token ids, each in [0, vocabulary). ApiError 400 naming the field `param`; words: what it may be.
std::vector<int> read_ids(const Json& list, int vocabulary, const char* param, const char* words);

// max_tokens, or what `room` leaves; both names of it.
int read_max_tokens(const Fields& fields, int64_t least, int absent, int room);
// ApiError 400 context_length_exceeded saying by how much. param: the field that holds the prompt.
void check_length(const Served& model, size_t prompt_tokens, const char* param);
// The same, before megabytes are cut into tokens: a text has at least its bytes over those of the longest token.
void check_bytes(const Served& model, size_t prompt_bytes, const char* param);
// One request per answer, each with a seed of its own.
void add_requests(Ask& ask, const AskFields& fields, const std::vector<int>& prompt, int max_tokens);

}  // namespace fettle
