// Guesses what comes next. The model then reads guesses as further rows of the same pass and draws each token as if they were not there, so
// that a right guess saves a pass and a wrong one costs a row. Several drafters are asked in turn, those that cost least first; who asks
// does not know which one guessed.
#pragma once
#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace fettle {

struct GuessCounters {
  std::atomic<uint64_t> guessed{0}, right{0};
};

class Drafter {
 public:
  // What one request asks at a step.
  struct Ask {
    uint64_t request = 0;
    std::span<const int> tokens;  // prompt and answer so far
    int prompt_tokens = 0;
    const Choices* choices = nullptr;  // what the answer must be; nullptr: anything
    int room = 0;                      // most guesses
    int cheap = 0;                     // most guesses that may be wrong: as many rows more cost little
    std::vector<int> guesses;
    Drafter* by = nullptr;  // whose they are
  };
  explicit Drafter(GuessCounters& counters) : counters_(counters) {}
  virtual ~Drafter() = default;
  // Guesses for those that have none. asks: of every sequence that draws a token at this step.
  void guess(std::span<Ask> asks);
  // How many of the request's last guesses, which were this drafter's, were right, from the first one on.
  void learn(uint64_t request, int guessed, int right);
  // The request is over, or starts anew.
  virtual void forget(uint64_t) {}

 private:
  // open: those without guesses, of `drawn` asks in all.
  virtual void fill(std::span<Ask* const> open, int drawn) = 0;
  virtual void adapt(uint64_t /*request*/, int /*guessed*/, int /*right*/) {}
  GuessCounters& counters_;
};

// Where a choice leaves one token only, that is certain, and each guess saves a pass whatever else runs. Choices are nobody else's to
// guess: their answers are short.
std::unique_ptr<Drafter> choice_drafter(const Tokenizer& tokenizer, GuessCounters& counters);
std::unique_ptr<Drafter> lookup_drafter(GuessCounters& counters);

}  // namespace fettle
