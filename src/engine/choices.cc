// A closed set of answers as sorted token paths: the paths that begin with what was generated are one range, found by bisection. An
// answer's path is the tokenizer's own encoding of it; other spellings of the same text are not walked. Answers that are prefixes of others
// end by the end token alone.
#include <algorithm>

#include "engine/engine.h"

namespace fettle {

struct Choices::State {
  std::vector<std::vector<int>> paths;  // sorted; each ends with the end token, when the vocabulary has one
};

namespace {

int end_token(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  for (int id : {spec.eot, spec.eos}) {
    if (id >= 0 && tokenizer.is_end(id)) return id;
  }
  for (int id = 0; id < tokenizer.size(); id++) {
    if (tokenizer.is_end(id)) return id;
  }
  return -1;
}

}  // namespace

Choices::Choices(const Tokenizer& tokenizer, const std::vector<std::string>& answers) : state_(std::make_unique<State>()) {
  if (answers.empty()) throw refused("choices", "the list of answers is empty");
  const int end = end_token(tokenizer);
  for (const std::string& answer : answers) {
    if (answer.empty()) throw refused("choices", "an answer is empty");
    std::vector<int> path = tokenizer.encode(answer);
    if (end >= 0) path.push_back(end);
    state_->paths.push_back(std::move(path));
  }
  std::sort(state_->paths.begin(), state_->paths.end());
  state_->paths.erase(std::unique(state_->paths.begin(), state_->paths.end()), state_->paths.end());
}

Choices::~Choices() = default;

std::vector<int> Choices::allowed(std::span<const int> generated) const {
  const size_t depth = generated.size();
  const auto compare_prefix = [&](const std::vector<int>& path) {
    for (size_t i = 0; i < depth; i++) {
      if (i == path.size() || path[i] < generated[i]) return -1;
      if (path[i] > generated[i]) return 1;
    }
    return 0;
  };
  const auto& paths = state_->paths;
  auto at = std::partition_point(paths.begin(), paths.end(), [&](const auto& path) { return compare_prefix(path) < 0; });
  const auto stop = std::partition_point(at, paths.end(), [&](const auto& path) { return compare_prefix(path) == 0; });
  std::vector<int> ids;
  while (at != stop) {
    if (at->size() == depth) {  // complete
      ++at;
      continue;
    }
    const int id = (*at)[depth];
    ids.push_back(id);
    at = std::partition_point(at, stop, [&](const auto& path) { return path[depth] <= id; });
  }
  return ids;
}

}  // namespace fettle
