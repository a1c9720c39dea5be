#include "engine/lookup.h"

#include <algorithm>

namespace fettle {
namespace {

constexpr int kLongest = 4, kShortest = 2;  // tokens that must have come before
constexpr int kWidest = 8, kRest = 16;

// Where the last `n` tokens ended when they last came before; 0: never.
size_t earlier(std::span<const int> tokens, size_t n) {
  for (size_t end = tokens.size() - 1; end >= n; end--)
    if (std::equal(tokens.end() - long(n), tokens.end(), tokens.begin() + long(end - n))) return end;
  return 0;
}

}  // namespace

std::vector<int> PromptLookup::guess(std::span<const int> tokens, int most) {
  if (rest_ > 0) {
    rest_--;
    return {};
  }
  most = std::min(most, width_);
  for (size_t n = kLongest; n >= kShortest && most > 0; n--) {
    if (tokens.size() <= n) continue;
    const size_t from = earlier(tokens, n);
    if (from == 0) continue;
    const auto first = tokens.begin() + long(from);
    return {first, first + std::min<long>(most, tokens.end() - first)};
  }
  return {};
}

void PromptLookup::learn(int guessed, int right) {
  if (guessed == 0) return;
  if (right == guessed) {
    width_ = std::min(width_ * 2, kWidest);
  } else if (right == 0) {
    width_ /= 2;
    if (width_ == 0) width_ = 2, rest_ = kRest;
  }
}

}  // namespace fettle
