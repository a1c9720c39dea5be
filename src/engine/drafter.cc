#include "engine/drafter.h"

#include <algorithm>
#include <unordered_map>

#include "engine/lookup.h"

namespace fettle {
namespace {

class ChoiceDrafter final : public Drafter {
 public:
  ChoiceDrafter(const Tokenizer& tokenizer, GuessCounters& counters) : Drafter(counters), tokenizer_(tokenizer) {}

 private:
  void fill(std::span<Ask* const> open, int) override {
    for (Ask* ask : open) {
      if (!ask->choices) continue;
      std::vector<int> answer(ask->tokens.begin() + ask->prompt_tokens, ask->tokens.end());
      while (int(ask->guesses.size()) < ask->room) {
        const std::vector<int> allowed = ask->choices->allowed(answer);
        if (allowed.size() != 1 || tokenizer_.is_end(allowed[0])) break;
        ask->guesses.push_back(allowed[0]);
        answer.push_back(allowed[0]);
      }
    }
  }
  const Tokenizer& tokenizer_;
};

class LookupDrafter final : public Drafter {
 public:
  using Drafter::Drafter;
  void forget(uint64_t request) override { requests_.erase(request); }

 private:
  void fill(std::span<Ask* const> open, int) override {
    for (Ask* ask : open) {
      if (!ask->choices) ask->guesses = requests_[ask->request].guess(ask->tokens, std::min(ask->room, ask->cheap));
    }
  }
  void adapt(uint64_t request, int guessed, int right) override { requests_[request].learn(guessed, right); }
  std::unordered_map<uint64_t, PromptLookup> requests_;
};

}  // namespace

void Drafter::guess(std::span<Ask> asks) {
  std::vector<Ask*> open;
  for (Ask& ask : asks) {
    if (!ask.by && ask.room > 0) open.push_back(&ask);
  }
  if (open.empty()) return;
  fill(open, int(asks.size()));
  for (Ask* ask : open) {
    if (!ask->guesses.empty()) ask->by = this;
  }
}

void Drafter::learn(uint64_t request, int guessed, int right) {
  counters_.guessed += uint64_t(guessed);
  counters_.right += uint64_t(right);
  adapt(request, guessed, right);
}

std::unique_ptr<Drafter> choice_drafter(const Tokenizer& tokenizer, GuessCounters& counters) {
  return std::make_unique<ChoiceDrafter>(tokenizer, counters);
}

std::unique_ptr<Drafter> lookup_drafter(GuessCounters& counters) { return std::make_unique<LookupDrafter>(counters); }

}  // namespace fettle
