// Exact match: the model's greedy answer, written freely, equals the expected one after trimming.
#include "eval/answers.h"

namespace fettle {

extern const Task task_exact = {"exact", "the greedy answer equals the expected one, spaces around it aside",
                                [](const EvalInput& input) { return score_answers("exact", input, nullptr, input.max_tokens); },
                                [](const EvalInput& input) { return plan_answers("exact", input, input.max_tokens); }};

}  // namespace fettle
