// Decides what each step computes: every running sequence's next token and a piece of the prompts of new ones, as one ragged batch.
//
// Admission is first come, first served, and only when the cache has pages for the whole prompt. A sequence that outgrows the cache sends
// the youngest one back to the queue (its tokens are kept and computed again later); the oldest always fits, because the cache holds at
// least one full context, so the queue never stands still. A prompt whose beginning another sequence is just computing waits for it and
// shares it.
#pragma once
#include <atomic>
#include <deque>
#include <memory>
#include <vector>

#include "engine/guess_plan.h"
#include "engine/session.h"
#include "engine/slots.h"

namespace fettle {

struct EngineCounters {
  std::atomic<int> running{0}, waiting{0};
  std::atomic<uint64_t> requests{0}, prompt_tokens{0}, cached_tokens{0}, generated_tokens{0};
  GuessCounters from_choices, from_lookup, from_draft;
};

// All of it belongs to the engine's thread.
class Scheduler {
 public:
  Scheduler(Model& model, const EngineOptions& options, EngineCounters& counters);
  void enqueue(std::unique_ptr<Session> session) { waiting_.push_back(std::move(session)); }
  bool idle() const { return running_.empty() && waiting_.empty(); }
  // Takes out the session, telling it so; false when it is not (or no longer) here.
  bool cancel(uint64_t id);
  void end_all(Finish finish, const std::string& error);
  // One pass of the model. Any exception it throws has left the sessions as they were.
  void step();
  void publish();

 private:
  // A session's part of the batch: `count` tokens and the session's guesses, whose logits are rows [first, first + wanted).
  struct Part {
    Session* session;
    int count, first, wanted;
  };
  void admit();
  bool admit_one(std::unique_ptr<Session>& session, bool& starved);
  bool companion_computes(const Session& session) const;
  void make_room();
  void preempt(size_t index);
  void leave(Session& session, bool keep);
  void build();
  void guess();
  void add_part(Session& session, int count);
  void append(const Part& part);
  void read(const Part& part, const float* logits, int vocabulary);
  void tell(Session& session);
  void accept(Session& session, Piece& piece);
  void end(Session& session, Finish finish, const std::string& error);

  Model& model_;
  std::string not_finite_;  // why the model computed such numbers, once it did
  EngineOptions options_;
  EngineCounters& counters_;
  Pool pool_;
  Arena arena_;
  KvCache kv_;
  Slots slots_;
  std::deque<std::unique_ptr<Session>> waiting_;
  std::vector<std::unique_ptr<Session>> running_;  // oldest first
  Batch batch_;
  std::vector<Part> parts_;
  std::vector<std::unique_ptr<Drafter>> drafters_;  // the first that has guesses is taken at its word
  PassTimes times_;                                 // of steps without prompts
};

}  // namespace fettle
