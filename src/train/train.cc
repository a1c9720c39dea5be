// The loop. A step: draw rows, pass, clip, AdamW, log; now and then an evaluation and a checkpoint. All that a step depends on is in
// TrainState, the parameters and the moments, so a run that goes on from a checkpoint takes the very same steps.
#include "train/train.h"

#include <algorithm>
#include <cmath>

#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/parameters.h"
#include "train/pass.h"
#include "train/plan.h"

namespace fettle {
namespace {

constexpr size_t kJudged = 10;  // losses at either end that divergence is judged by

void check_options(const TrainOptions& o) {
  if (o.precision == Precision::serving) throw usage("training computes in f32 or bf16, not in serving precision");
  if (!(o.lr > 0) || !std::isfinite(o.lr)) throw usage("--lr must be above 0");
  if (!(o.weight_decay >= 0) || !(o.clip >= 0) || !(o.warmup >= 0)) throw usage("--weight-decay, --clip and --warmup must not be negative");
  if (!(o.beta1 >= 0 && o.beta1 < 1) || !(o.beta2 >= 0 && o.beta2 < 1) || !(o.epsilon > 0))
    throw usage("impossible AdamW settings", "betas lie in [0, 1), epsilon above 0");
  if (o.schedule != "cosine" && o.schedule != "linear" && o.schedule != "constant")
    throw usage("unknown --schedule '" + o.schedule + "'", "cosine, linear or constant");
  if (o.eval_every < 0 || o.patience < 0 || o.checkpoint_every < 0) throw usage("intervals must not be negative");
}

// Shortest text that reads back as the same number would be best; 17 digits are enough to tell two apart.
std::string number(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

class Trainer {
 public:
  Trainer(Model& model, const std::vector<TokenRow>& rows, const std::vector<TokenRow>& held_out, const TrainOptions& options,
          const fs::path& folder, const std::function<void(const StepLog&)>& on_step)
      : model_(model),
        held_out_(held_out),
        o_(options),
        folder_(folder),
        on_step_(on_step),
        pool_(options.threads),
        plan_(rows, options, model.config.vocabulary, model.config.context),
        parameters_(make_trainable(model, options)),
        optimizer_(count(parameters_)) {}
  ~Trainer() { end_training(model_); }
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  TrainResult run();

 private:
  void begin();
  void take(Checkpoint saved);
  bool take_step(Pass& pass, StepLog& log);
  void stop_if_lost(const Step& step, double loss, double norm);
  void blame_model() const;
  bool evaluation_due() const;
  void evaluate(StepLog& log);
  void save();
  bool done() const { return !state_.stopped_because.empty(); }
  std::map<std::string, std::string> identity() const;
  int64_t largest_part();
  TrainResult result() const;

  Model& model_;
  const std::vector<TokenRow>& held_out_;
  const TrainOptions& o_;
  fs::path folder_;
  const std::function<void(const StepLog&)>& on_step_;
  Pool pool_;
  Plan plan_;
  std::vector<Parameter> parameters_;
  AdamW optimizer_;
  std::vector<float> best_;  // values of the best evaluation; empty: never evaluated
  TrainState state_;
  std::unique_ptr<MetricsLog> metrics_;
  int64_t saved_step_ = -1, tokens_here_ = 0;
  double seconds_here_ = 0;
};

// What a continuation must share with the run it continues: all that changes a step's numbers.
std::map<std::string, std::string> Trainer::identity() const {
  uint64_t model = 0;
  for (const NamedTensor& t : model_.file->tensors())
    model = hash64(t.name + " " + t.tensor.format->name + " " + t.tensor.shape.text(), model);
  std::map<std::string, std::string> id = {{"method", o_.method},
                                           {"--lr", number(o_.lr)},
                                           {"--weight-decay", number(o_.weight_decay)},
                                           {"betas", number(o_.beta1) + " " + number(o_.beta2) + " " + number(o_.epsilon)},
                                           {"--clip", number(o_.clip)},
                                           {"--schedule", o_.schedule},
                                           {"--warmup", number(o_.warmup)},
                                           {"number of steps (--epochs, --max-steps)", std::to_string(plan_.steps())},
                                           {"--batch", std::to_string(o_.batch)},
                                           {"--accumulate", std::to_string(o_.accumulate)},
                                           {"--pack", std::to_string(o_.pack_rows) + "x" + std::to_string(o_.pack_tokens)},
                                           {"--max-tokens", std::to_string(o_.max_tokens)},
                                           {"--shuffle", o_.shuffle},
                                           {"--dtype", o_.precision == Precision::exact ? "f32" : "bf16"},
                                           {"--seed", std::to_string(o_.seed)},
                                           {"training data", std::to_string(plan_.digest())},
                                           {"kind of loss", o_.teacher ? "a teacher's distributions" : "labels"},
                                           {"model", std::to_string(model)}};
  if (o_.method == "lora" && !o_.init_adapter) id["--rank, --alpha"] = std::to_string(o_.rank) + ", " + number(o_.alpha);
  return id;
}

void Trainer::take(Checkpoint saved) {
  const std::string place = (folder_ / "checkpoint").string();
  for (const auto& [name, value] : identity()) {
    const auto found = saved.identity.find(name);
    if (found == saved.identity.end() || found->second != value)
      throw refused(place,
                    "was made with another " + name + (found == saved.identity.end() ? "" : " (" + found->second + ", now " + value + ")"),
                    "resume with the options of the first run, or start anew with --force");
  }
  bool same = saved.parameters.size() == parameters_.size();
  for (size_t i = 0; same && i < parameters_.size(); i++)
    same = saved.parameters[i] == std::pair(parameters_[i].name, int64_t(parameters_[i].value.size()));
  if (!same) throw refused(place, "trained other linears (--targets)");
  set_values(parameters_, saved.values);
  refresh(model_);
  optimizer_.first = std::move(saved.first);
  optimizer_.second = std::move(saved.second);
  best_ = std::move(saved.best);
  state_ = std::move(saved.state);
  saved_step_ = state_.step;
}

void Trainer::begin() {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw failed(folder_.string(), "cannot be made: " + error.message());
  std::optional<Checkpoint> saved;
  if (o_.resume) saved = load_checkpoint(folder_);
  clean_checkpoints(folder_, !o_.resume);
  if (saved) take(std::move(*saved));
  metrics_ = std::make_unique<MetricsLog>(folder_, state_.step);
  if (plan_.skipped_rows()) warn(std::to_string(plan_.skipped_rows()) + " rows have no token to train on and are left out");
}

void Trainer::save() {
  if (saved_step_ == state_.step && !done()) return;
  // The moments and the best values are lent to the checkpoint: copies could be as large as the model. If saving throws, the run is over.
  Checkpoint c{state_,          identity(), {}, copy_values(parameters_), std::move(optimizer_.first), std::move(optimizer_.second),
               std::move(best_)};
  for (const Parameter& p : parameters_) c.parameters.emplace_back(p.name, int64_t(p.value.size()));
  save_checkpoint(folder_, c);
  optimizer_.first = std::move(c.first);
  optimizer_.second = std::move(c.second);
  best_ = std::move(c.best);
  saved_step_ = state_.step;
}

// What was not learned here but came with the file is not --lr's fault.
void Trainer::blame_model() const {
  for (const Model* m : {&model_, o_.teacher}) {
    if (!m) continue;
    if (const Error why = m->why_not_finite(); why.code == Exit::refused) throw why;
  }
}

void Trainer::stop_if_lost(const Step& step, double loss, double norm) {
  const bool finite = std::isfinite(loss) && std::isfinite(norm);
  double early = 0, recent = 0;
  for (double l : state_.early) early += l / double(kJudged);
  for (double l : state_.recent) recent += l / double(kJudged);
  const bool diverged = state_.step >= int64_t(2 * kJudged) && recent > 1.5 * early + 1;
  if (finite && !diverged) return;
  if (!finite) blame_model();
  const std::string what = !std::isfinite(loss) ? "the loss is not a number"
                           : !finite            ? "the gradient is not finite"
                                     : "the loss has diverged (mean of the last " + std::to_string(kJudged) + " steps " + number(recent) +
                                           ", of the first " + number(early) + ")";
  const std::string kept = saved_step_ >= 0 ? "; the checkpoint of step " + std::to_string(saved_step_) + " is kept" : "";
  throw failed("step " + std::to_string(state_.step + 1), what + "; rows of this step: " + step.rows(),
               "lower --lr (it was " + number(o_.lr) + ") or look at these rows" + kept);
}

// One optimizer step; false when it was interrupted and nothing has changed.
bool Trainer::take_step(Pass& pass, StepLog& log) {
  const double start = now_seconds();
  const Step step = plan_.step(state_.step);
  for (const Parameter& p : parameters_) std::fill(p.grad.begin(), p.grad.end(), 0.0f);
  log.loss = pass.train(step, o_.accumulate, interrupted);
  if (interrupted()) return false;
  log.grad_norm = gradient_norm(parameters_, pool_);
  if (std::isfinite(log.loss)) {
    if (state_.early.size() < kJudged) state_.early.push_back(log.loss);
    if (state_.recent.size() == kJudged) state_.recent.erase(state_.recent.begin());
    state_.recent.push_back(log.loss);
  }
  stop_if_lost(step, log.loss, log.grad_norm);
  log.lr = learning_rate(o_, state_.step, plan_.steps());
  const double factor = o_.clip > 0 ? std::min(1.0, o_.clip / (log.grad_norm + 1e-6)) : 1.0;
  optimizer_.update(parameters_, o_, state_.step + 1, log.lr, factor, pool_);
  refresh(model_);
  const double spent = now_seconds() - start;
  if (state_.step == 0) state_.first_loss = log.loss;
  state_.last_loss = log.loss;
  state_.step++;
  state_.tokens += step.tokens;
  state_.seconds += spent;
  tokens_here_ += step.tokens;
  seconds_here_ += spent;
  log.step = state_.step;
  log.tokens = state_.tokens;
  log.epoch = double(state_.step) / double(plan_.steps_per_epoch());
  log.seconds = state_.seconds;
  return true;
}

bool Trainer::evaluation_due() const {
  if (held_out_.empty()) return false;
  return state_.step == plan_.steps() || state_.step % (o_.eval_every ? o_.eval_every : plan_.steps_per_epoch()) == 0;
}

void Trainer::evaluate(StepLog& log) {
  const double loss = evaluate_loss(model_, held_out_, o_.precision, pool_, o_.teacher);
  if (!std::isfinite(loss)) blame_model();
  if (!std::isfinite(loss))
    throw failed("step " + std::to_string(state_.step), "the held-out loss is not a number", "lower --lr (it was " + number(o_.lr) + ")");
  log.eval_loss = loss;
  if (!state_.has_eval || loss < state_.best_eval_loss) {
    state_.has_eval = true;
    state_.best_eval_loss = loss;
    state_.best_step = state_.step;
    state_.without_improvement = 0;
    best_ = copy_values(parameters_);
  } else if (++state_.without_improvement; o_.patience && state_.without_improvement >= o_.patience) {
    state_.stopped_because = "early-stop";
  }
}

int64_t Trainer::largest_part() {
  int64_t most = 1;
  const int64_t look = std::min<int64_t>(plan_.steps(), 200);
  for (int64_t i = 0; i < look; i++) most = std::max(most, plan_.step(i * plan_.steps() / look).tokens);
  return (most + o_.accumulate - 1) / o_.accumulate;
}

TrainResult Trainer::run() {
  begin();
  Pass pass(model_, pool_, o_.precision, needs_checkpoint_blocks(model_, o_, largest_part()), o_.teacher);
  while (!done()) {
    StepLog log;
    if (interrupted() || !take_step(pass, log)) {
      save();
      throw Error(Exit::interrupted, folder_.string(),
                  "interrupted after step " + std::to_string(state_.step) + " of " + std::to_string(plan_.steps()),
                  "everything so far is saved: --resume goes on");
    }
    if (state_.step == plan_.steps()) state_.stopped_because = o_.max_steps && plan_.steps() == o_.max_steps ? "max-steps" : "epochs";
    if (evaluation_due()) evaluate(log);
    metrics_->write(log);
    if (done() || (o_.checkpoint_every && state_.step % o_.checkpoint_every == 0)) save();
    if (on_step_) on_step_(log);
  }
  if (state_.has_eval && state_.best_step != state_.step) {
    set_values(parameters_, best_);
    refresh(model_);
  }
  return result();
}

TrainResult Trainer::result() const {
  TrainResult r;
  r.steps = state_.step;
  r.tokens = state_.tokens;
  r.trained_parameters = count(parameters_);
  r.epochs = double(state_.step) / double(plan_.steps_per_epoch());
  r.tokens_per_s = seconds_here_ > 0    ? double(tokens_here_) / seconds_here_
                   : state_.seconds > 0 ? double(state_.tokens) / state_.seconds
                                        : 0;
  r.first_loss = state_.first_loss;
  r.last_loss = state_.last_loss;
  r.best_eval_loss = state_.best_eval_loss;
  r.has_eval = state_.has_eval;
  r.stopped_because = state_.stopped_because;
  r.truncated_rows = plan_.truncated_rows();
  return r;
}

}  // namespace

TrainResult train(Model& model, const std::vector<TokenRow>& rows, const std::vector<TokenRow>& held_out, const TrainOptions& options,
                  const fs::path& folder, const std::function<void(const StepLog&)>& on_step) {
  model.require_text();
  TrainOptions chosen = options;
  if (chosen.lr == 0) chosen.lr = usual_learning_rate(model.config, chosen.method);
  check_options(chosen);
  if (chosen.teacher && chosen.teacher->head.out != model.head.out)
    throw usage("the teacher's vocabulary has " + std::to_string(chosen.teacher->head.out) + " tokens, the model's " +
                    std::to_string(model.head.out),
                "distilling needs the same vocabulary");
  return Trainer(model, rows, held_out, chosen, folder, on_step).run();
}

}  // namespace fettle
