// Who may wait for a model.
#pragma once
#include "serve/api_error.h"
#include "serve/context.h"

namespace fettle {

// A place in the model's queue for each answer, or 429.
class Admission {
 public:
  Admission(Served& model, int answers, int max_queue) : model_(model), answers_(answers) {
    const int most = model.engine->options().parallel + max_queue;
    if (model_.under_way.fetch_add(answers) + answers <= most) return;
    model_.under_way -= answers;
    ApiError error(429, "the queue is full; try again shortly", "queue_full");
    error.retry_after_s = 1;
    throw error;
  }
  ~Admission() { model_.under_way -= answers_; }
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

 private:
  Served& model_;
  int answers_;
};

}  // namespace fettle
