// Guesses what comes next with a smaller model (Leviathan et al. 2023): it reads what its sequence has come to, in one pass for all that
// ask, then says its likeliest tokens one by one for as long as it is sure of them. It has a cache of keys and values of its own, with the
// same rules as the engine's (Slots). How many tokens it guesses follows from what passes of both models take and from how often its
// guesses of this request were right; where it does not pay, it stops, and looks again when that costs next to nothing.
#pragma once
#include <unordered_map>

#include "engine/drafter.h"
#include "engine/guess_plan.h"
#include "engine/slots.h"

namespace fettle {

class ModelDrafter final : public Drafter {
 public:
  struct Limits {
    int sequences = 0;   // that it follows at a time; the cache keeps as many finished ones
    int64_t tokens = 0;  // that its cache holds
    int vocabulary = 0;  // ids that may be guessed
    int context = 0;     // tokens of a sequence; <= the model's
    int chunk = 0;       // tokens that it reads at a step
  };
  // element: of its cache. pool, arena: the engine's, which is idle meanwhile. target: passes of the engine's model, without prompts.
  ModelDrafter(Model& model, const Format* element, Precision precision, const Limits& limits, Pool& pool, Arena& arena,
               const PassTimes& target, GuessCounters& counters);
  void forget(uint64_t request) override;

 private:
  // What the draft knows of a request.
  struct Followed {
    int slot = -1;             // in its cache; -1: none
    int fed = 0;               // tokens whose keys and values are there
    std::vector<int> guesses;  // the last ones
    int computed = 0;          // of them, those whose keys and values are there too
    bool unsure = false;       // whether they end because the draft was not sure how to go on
    GuessRates rates;
  };
  struct Work {
    Ask* ask;
    Followed* followed;
    int most;
    bool goes_on = true;
  };
  void fill(std::span<Ask* const> open, int drawn) override;
  void adapt(uint64_t request, int guessed, int right) override;
  int plan(const Ask& ask, Followed& followed, int drawn);
  int unread(const Ask& ask, const Followed& followed) const;
  bool make_room(const Ask& ask, Followed& followed, int most);
  void read();
  void go_on();
  void pass();
  void say(Work& work, const float* logits);
  void learn_rates(Followed& followed, const GuessRates& seen);

  Model& model_;
  const Precision precision_;
  const Limits limits_;
  Pool& pool_;
  Arena& arena_;
  const PassTimes& target_;
  KvCache kv_;
  Slots slots_;
  std::unordered_map<uint64_t, Followed> requests_;
  PassTimes times_;
  double token_seconds_ = 0;  // of a long piece of a prompt; 0: not yet known
  GuessRates rates_;          // of all requests: what is expected of a new one
  double spare_ = 0;          // seconds that may go into looking whether it pays after all
  std::vector<Work> work_;
  Batch batch_;
};

}  // namespace fettle
