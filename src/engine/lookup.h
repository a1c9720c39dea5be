// Guesses what comes next without a model: what followed when the same few tokens came before (prompt lookup, Saxena 2023). Of one request.
#pragma once
#include <span>
#include <vector>

namespace fettle {

class PromptLookup {
 public:
  // Up to `most` guesses of what follows `tokens`; fewer, or none, for an answer that guesses have missed.
  std::vector<int> guess(std::span<const int> tokens, int most);
  // How many of the last guesses were right, from the first one on.
  void learn(int guessed, int right);

 private:
  int width_ = 4;  // guesses at a time
  int rest_ = 0;   // calls for which nothing is guessed
};

}  // namespace fettle
