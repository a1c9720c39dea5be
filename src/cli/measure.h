// Private to cli: one task measured on one model, shared by eval, compare and quantize.
#pragma once
#include "cli/model_use.h"
#include "cli/plan.h"

namespace fettle {

struct MeasureOptions {
  int max_tokens = 64, chunk_tokens = 512, max_chunks = 0, parallel = 16, context = 4096;
  std::string activations = "auto";
  const Format* kv = nullptr;  // as EngineOptions has it
};
void add_measure(Options& options, MeasureOptions& measure);

// One task on one open model. reference: for kl only.
Score measure(const std::string& task, const std::shared_ptr<Model>& model, Model* reference, const EvalData& data,
              const MeasureOptions& options, const StageContext& context);
// What measure() would do, and what it would take; refuses what it would refuse before it computes anything.
struct MeasurePlan {
  EvalWork work;
  Needs needs;
  std::string text;  // "choice: 204 rows, 4.1 k tokens read, at most 1.2 k written"
};
MeasurePlan plan_measure(const std::string& task, const std::shared_ptr<Model>& model, Model* reference, const EvalData& data,
                         const MeasureOptions& options, const StageContext& context);
// {task, rows, tokens, score {value, low, high}, seconds} and kl's own keys.
Json score_json(const Score& score);
// "93.4 % (91.6 to 94.8)", "12.31 (12.10 to 12.53)"
std::string score_text(const Json& score);

}  // namespace fettle
