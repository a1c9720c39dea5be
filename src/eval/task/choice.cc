// Choice: the answers found in the data are a closed set, and decoding is constrained to it, so that nothing else can come out. The walk is
// greedy, token by token: where two answers begin differently, the likelier beginning wins, as it does when the model is served so.
// Refused where the answers are plainly no closed set; `exact` is for those.
#include <set>

#include "eval/answers.h"

namespace fettle {
namespace {

constexpr size_t kMostChoices = 1000;
constexpr int kLongestChoice = 64;  // tokens

std::vector<std::string> closed_set(const std::vector<Example>& examples) {
  std::set<std::string> answers;
  for (const Example& e : examples) answers.insert(std::string(trim(e.answer())));
  answers.erase("");
  const size_t n = answers.size(), rows = examples.size();
  const char* hint = "use the task 'exact' for answers written freely";
  if (answers.empty()) throw refused(place_of(examples.front()), "every expected answer is empty", hint);
  if (n > kMostChoices || (rows >= 20 && n > rows / 2))
    throw refused(examples.front().file,
                  std::to_string(n) + " different answers in " + std::to_string(rows) + " rows are no closed set to choose from", hint);
  return {answers.begin(), answers.end()};
}

struct ClosedSet {
  std::vector<std::string> answers;
  int longest = 0;  // tokens
};

ClosedSet closed_set_of(const EvalInput& input) {
  ClosedSet set{closed_set(examples_of("choice", input))};
  const Tokenizer& tokenizer = *input.engine->model().tokenizer;
  for (const std::string& a : set.answers) {
    const int tokens = int(tokenizer.encode(a).size());
    if (tokens > kLongestChoice)
      throw refused(input.examples->front().file,
                    "the answer \"" + a.substr(0, 40) + "...\" has " + std::to_string(tokens) + " tokens, too long for a choice",
                    "use the task 'exact' for answers written freely");
    set.longest = std::max(set.longest, tokens);
  }
  return set;
}

Score run(const EvalInput& input) {
  const ClosedSet set = closed_set_of(input);
  return score_answers("choice", input, std::make_shared<Choices>(*input.engine->model().tokenizer, set.answers), set.longest + 1);
}

EvalWork plan(const EvalInput& input) { return plan_answers("choice", input, closed_set_of(input).longest + 1); }

}  // namespace

extern const Task task_choice = {"choice", "of all answers in the data, the one that constrained decoding picks is the expected one", run,
                                 plan};

}  // namespace fettle
