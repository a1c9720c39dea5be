// Tasks whose score is the share of right answers: every example's question goes through the engine as a server would ask it, all of them
// batched, and the answer is compared with the expected one after trimming. Private to the room.
#pragma once
#include <memory>

#include "eval/eval.h"

namespace fettle {

// choices: what may be answered; nullptr: anything. Error{refused} naming the row when a prompt does not fit the context.
Score score_answers(const char* task, const EvalInput& input, const std::shared_ptr<const Choices>& choices, int max_tokens);

EvalWork plan_answers(const char* task, const EvalInput& input, int max_tokens);

// The examples of a task that needs them; Error{usage} when there are none.
const std::vector<Example>& examples_of(const char* task, const EvalInput& input);
// "tickets.jsonl:318"
std::string place_of(const Example& example);

}  // namespace fettle
