// Private to pipeline: the parts of fit's document that tell people what came of it. The report and the terminal show them; none measures.
#pragma once
#include <span>

#include "pipeline/stage.h"

namespace fettle {

struct MeasuredModel {
  const char* name;  // "base", "tuned", "compressed"
  fs::path file;
  const Scored* scored;
};

// "task", "rows" and "table": one row per model.
void add_scores(Json& document, std::span<const MeasuredModel> models);
// "flipped" and "flipped_total": held-out rows that the second of two models answers otherwise than the first.
void add_flips(Json& document, const Score& before, const Score& after, const std::vector<Example>& held_out);
// Expected against given answers, for the classes with most mistakes: {"classes", "counts"}.
Json confusion_of(const Score& score);
// Says each verdict. "gates" are all of them, "gate" is the one that decided: the first that did not pass, else the one about accuracy;
// "passed": all did.
void add_verdicts(Json& document, const std::vector<GateResult>& results);
// Steps with their losses, from a run's metrics.jsonl.
Json loss_curve(const fs::path& metrics);

}  // namespace fettle
