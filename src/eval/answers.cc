#include "eval/answers.h"

#include <algorithm>

namespace fettle {
namespace {

std::vector<Request> requests_of(const EvalInput& input, const std::shared_ptr<const Choices>& choices, int max_tokens) {
  const ChatFormat format = input.engine->model().chat_format();
  const int context = input.engine->options().context;
  std::vector<Request> requests;
  requests.reserve(input.examples->size());
  for (const Example& e : *input.examples) {
    Request r;
    r.prompt = format.prompt({e.messages.begin(), e.messages.end() - 1});
    r.max_tokens = max_tokens;
    r.choices = choices;
    if (int(r.prompt.size()) >= context)
      throw refused(place_of(e),
                    "the question has " + std::to_string(r.prompt.size()) + " tokens, which leaves no room for an answer in a context of " +
                        std::to_string(context),
                    "raise --context, or leave the row out");
    requests.push_back(std::move(r));
  }
  return requests;
}

}  // namespace

const std::vector<Example>& examples_of(const char* task, const EvalInput& input) {
  if (!input.examples || input.examples->empty())
    throw usage(std::string("the task '") + task + "' needs examples",
                input.text.empty() ? "name them with --data" : "this data is plain text: --task perplexity reads it");
  return *input.examples;
}

std::string place_of(const Example& example) { return example.file + ":" + std::to_string(example.row); }

EvalWork plan_answers(const char* task, const EvalInput& input, int max_tokens) {
  examples_of(task, input);
  const std::vector<Request> requests = requests_of(input, nullptr, max_tokens);
  int common = requests.empty() ? 0 : int(requests[0].prompt.size());  // that all prompts begin with
  for (const Request& r : requests) common = std::min(common, common_prefix(requests[0].prompt, r.prompt));
  EvalWork work{int64_t(requests.size()), int64_t(common)};
  for (const Request& r : requests) {
    work.read_tokens += int64_t(r.prompt.size() - common);
    work.answer_tokens += std::min(max_tokens, input.engine->options().context - int(r.prompt.size()));
  }
  work.scored_tokens = work.rows;
  return work;
}

Score score_answers(const char* task, const EvalInput& input, const std::shared_ptr<const Choices>& choices, int max_tokens) {
  const double start = now_seconds();
  const std::vector<Example>& examples = examples_of(task, input);
  std::vector<Request> requests = requests_of(input, choices, max_tokens);
  const std::vector<Answer> answers = input.engine->generate_all(std::move(requests), [&](size_t done) {
    if (input.progress) input.progress(int64_t(done), int64_t(examples.size()));
  });
  Score score;
  score.task = task;
  score.rows = int64_t(examples.size());
  int64_t right = 0;
  for (size_t i = 0; i < examples.size(); i++) {
    const Answer& a = answers[i];
    if (a.finish == Finish::error) {
      const Error why = input.engine->model().why_not_finite();
      throw why.code == Exit::refused ? why : failed(place_of(examples[i]), a.error);
    }
    RowScore row{int64_t(i), std::string(trim(examples[i].answer())), std::string(trim(a.text)), false, a.log_prob};
    row.right = row.answer == row.expected;
    right += row.right;
    score.tokens += a.prompt_tokens + int64_t(a.ids.size());
    score.row_scores.push_back(std::move(row));
  }
  score.score = wilson(right, score.rows);
  score.seconds = now_seconds() - start;
  return score;
}

}  // namespace fettle
