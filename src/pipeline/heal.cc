// What rounding cost is won back, for the most part, by training the scales of a quantized model's blocks towards what the model that it
// was made of says; the file keeps its size. The watched rows say whether it helped.
#include <algorithm>
#include <cstdio>

#include "format/format.h"
#include "pipeline/stage.h"

namespace fettle {
namespace {

constexpr size_t kWatched = 128;  // rows: all their tokens are scored, which tells one file from another well enough

// All tokens behind what every row begins with: a teacher has something to say at each of them, and the more it says, the fewer rows are
// needed.
std::vector<TokenRow> learned_everywhere(std::vector<TokenRow> rows) {
  int common = rows.empty() ? 0 : int(rows[0].ids.size());
  for (const TokenRow& row : rows) common = std::min(common, common_prefix(rows[0].ids, row.ids));
  for (TokenRow& row : rows) std::copy(row.ids.begin() + common, row.ids.end(), row.labels.begin() + common);
  return rows;
}

bool has_scales(Model& model) {
  const std::vector<Linear*> linears = model.linears();
  return std::any_of(linears.begin(), linears.end(), [](const Linear* l) { return l->weight.format->scale_at >= 0; });
}

}  // namespace

Json heal(const HealArguments& a) {
  auto model = Model::open(a.quantized);
  Json result = {{"healed", false}};
  if (has_scales(*model)) {
    auto teacher = Model::open(a.teacher);
    const std::vector<TokenRow> rows = learned_everywhere(a.rows);
    std::vector<TokenRow> watched = learned_everywhere(a.watched);
    if (watched.size() > kWatched) watched.resize(kWatched);
    TrainOptions options = a.options;
    options.method = "scales";
    options.lr = 0;
    options.teacher = teacher.get();
    const TrainEstimate whole = estimate_training(*model, rows, options);
    options.max_steps = whole.steps;
    if (a.seconds > 0)
      options.max_steps = std::clamp(int64_t(double(whole.steps) * a.seconds / std::max(whole.seconds, 1e-9)), int64_t(1), whole.steps);
    options.eval_every = int(options.max_steps);
    Pool pool(options.threads);
    const double before = evaluate_loss(*model, watched, options.precision, pool, teacher.get());
    const Json run = run_training(*model, rows, watched, options, a.folder, "heal", a.teacher.string());
    const double after = run["best_eval_loss"];
    result = {{"healed", after < before}, {"kl_before", before}, {"kl_after", after}, {"steps", run["steps"]}};
    char line[128];
    std::snprintf(line, sizeof line, "healing: KL to the model before it was quantized, on watched rows: %.4f, before %.4f%s", after,
                  before, after < before ? "" : "; not kept");
    say(line);
  }
  model.reset();
  if (result["healed"])
    fs::rename(a.folder / "model.gguf", a.out);
  else if (a.out != a.quantized)
    fs::copy_file(a.quantized, a.out, fs::copy_options::overwrite_existing);
  return result;
}

}  // namespace fettle
