// fit: the whole chain, to a target. Seven stages; each remembers what it came from (RunFolder), so that a run that was stopped goes on
// where it was, and a run with another target repeats only what the target touches. The held-out rows are read by the evaluation alone:
// training watches rows of its own. The whole size that a target allows is spent: bits are what accuracy is made of.
#include <algorithm>
#include <cmath>

#include "format/format.h"
#include "pipeline/fit_document.h"
#include "pipeline/gate.h"
#include "pipeline/names.h"
#include "pipeline/stage.h"

namespace fettle {
namespace {

constexpr int kStages = 7;
constexpr double kWatched = 0.06;  // share of the training rows that is watched for the loss
constexpr size_t kCalibrationRows = 192;
constexpr double kHealingShare = 0.15;  // of a time budget, at most
constexpr int64_t kHealingSteps = 32, kLeastSteps = 10;

class Fit {
 public:
  Fit(const FitArguments& arguments, const StageContext& context)
      : arguments_(arguments), context_(context), rules_(parse_rules(arguments.target)), name_(name_for(arguments)) {
    require_model_name(name_);
    for (const std::string& source : {arguments.data, arguments.held_out})  // before a base is fetched
      if (!source.empty()) require_source(source);
    if (arguments.options.method != "lora")
      throw usage("fit trains low-rank adapters", "for other methods: fettle tune, quantize and eval, one by one");
    options_ = arguments.options;
    options_.seed = context.seed;
    options_.threads = context.threads;
    options_.memory_bytes = context.memory_bytes;
    document_ = {{"name", name_}, {"base", arguments.base}, {"target", arguments.target}, {"passed", false}, {"stages", Json::array()}};
  }

  Json run() {
    if (context_.dry_run) return plan();
    folder_.emplace(arguments_.out, "fit", name_, context_);
    say("run folder " + folder_->path().string() + ", seed " + std::to_string(context_.seed));
    try {
      stage(1, "base", [&] { return take_base(); });
      stage(2, "data", [&] { return take_data(); });
      stage(3, "tune", [&] { return tune(); });
      stage(4, "merge", [&] { return merge_adapter(); });
      stage(5, "compress", [&] { return compress(); });
      stage(6, "evaluate", [&] { return evaluate(); });
      stage(7, "gate", [&] { return gate(); });
    } catch (const Error& error) {
      if (error.code == Exit::usage || error.code == Exit::refused) throw;
      const bool cause = !error.hint.empty() && error.code != Exit::interrupted;
      throw Error(error.code, error.place, error.what(), (cause ? error.hint + "; " : "") + folder_->way_on(context_));
    }
    return document_;
  }

 private:
  static std::string name_for(const FitArguments& arguments) {
    return arguments.name.empty() ? name_from(source_path(arguments.data).stem().string()) : arguments.name;
  }

  template <class F>
  void stage(int number, const char* name, F&& body) {
    stop_if_interrupted();
    say("stage " + std::to_string(number) + " of " + std::to_string(kStages) + ": " + name);
    const double start = now_seconds();
    kept_ = ran_ = false;
    Json result = body();
    document_["stages"].push_back(
        {{"name", name}, {"seconds", now_seconds() - start}, {"skipped", kept_ && !ran_}, {"result", std::move(result)}});
  }

  // Runs `body` unless an earlier run did it with the same inputs. body gets whether its own checkpoints may be used.
  template <class F>
  Json once(const std::string& name, const Json& inputs, const std::vector<std::string>& outputs, F&& body) {
    const std::string key = digest_of(inputs);
    if (auto before = folder_->done(name, key)) {
      kept_ = true;
      say(name + " was done before: kept");
      return *before;
    }
    ran_ = true;
    const bool resumable = folder_->begin(name, key);
    Json result = body(resumable);
    folder_->record(name, key, result, outputs);
    return result;
  }

  Json plan();
  Json take_base();
  Json take_data();
  Json tune();
  Json merge_adapter();
  Json compress();
  Json evaluate();
  Json gate();
  double beside_training(Model& model, const TrainEstimate& estimate, const std::vector<TokenRow>& rows) const;
  int64_t steps_in_time(Model& model, const std::vector<TokenRow>& rows) const;
  void read_rows();
  Json compress_now();
  Json heal_now(bool resumable);
  Scored score(const std::string& which, const fs::path& file, const std::string& digest);
  std::optional<Interval> measure_kl();
  Json lineage() const;
  ModelRecord register_model();
  uint64_t size_limit() const;
  bool closed() const { return why_free_.empty(); }
  bool asks(const char* metric) const {
    return std::any_of(rules_.begin(), rules_.end(), [&](const Rule& r) { return r.metric == metric; });
  }

  const FitArguments& arguments_;
  const StageContext& context_;
  const std::vector<Rule> rules_;
  const std::string name_;
  TrainOptions options_;
  std::optional<RunFolder> folder_;
  Json document_;
  bool kept_ = false, ran_ = false;  // by the current stage
  fs::path base_;
  std::string base_digest_, rows_digest_;
  PreparedData data_;
  std::vector<Example> train_, watched_;
  std::string why_free_;  // answers are no labels; empty: they are
  Scored scored_base_, scored_tuned_, scored_compressed_;
};

Json Fit::take_base() {
  base_ = resolve_model(arguments_.base, context_.offline);
  if (size_limit()) require_reachable(open_model_file(base_), size_limit());
  base_digest_ = model_digest(base_);
  say(base_.string() + ", " + format_bytes(double(model_bytes(base_))));
  return {{"path", base_.string()}, {"digest", base_digest_}, {"bytes", model_bytes(base_)}};
}

// The rows that training sees, those whose loss it watches, and those that nobody sees before the evaluation.
void Fit::read_rows() {
  data_ = prepare_data(arguments_.data, arguments_.held_out, kHeldOutShare, arguments_.skip_bad, context_.seed);
  Dataset all;
  all.examples = data_.train;
  const Split split = split_dataset(all, kWatched, context_.seed + 1);
  if (split.train.empty()) throw refused(arguments_.data, "has too few different questions to train on");
  for (size_t i : split.train) train_.push_back(data_.train[i]);
  for (size_t i : split.held_out) watched_.push_back(data_.train[i]);
  why_free_ = why_free_answers(data_.train, data_.held_out);
  for (const Rule& rule : rules_)
    if (const std::string text = hard_to_prove(rule, int64_t(data_.held_out.size())); closed() && !text.empty()) warn(text);
  rows_digest_ = digest_of({data_.data.digest, data_.held_out_data.digest, data_.train.size(), data_.held_out.size(), context_.seed});
}

Json Fit::take_data() {
  read_rows();
  auto model = Model::open(base_);
  const ChatFormat format = model->chat_format();
  prove_and_show(format, train_);
  Json report = report_json(data_);
  report["watched"] = watched_.size();
  report["answers"] = closed() ? "closed" : "free";
  report["tokens"] = statistics_json(token_statistics(token_rows(format, train_), options_.max_tokens));
  say(closed() ? "answers are labels: scored by constrained choice"
               : "answers are free text (" + why_free_ + "): scored by exact match and perplexity");
  return report;
}

// Seconds of all stages but training.
double Fit::beside_training(Model& model, const TrainEstimate& estimate, const std::vector<TokenRow>& rows) const {
  const auto tokens = [](const std::vector<TokenRow>& list) {
    double n = 0;
    for (const TokenRow& row : list) n += double(row.ids.size());
    return n;
  };
  const double all = tokens(rows), each = all / double(std::max<size_t>(1, rows.size()));
  FitWork work{std::min(all, each * double(kCalibrationRows)), std::min(all, each * double(kHealingSteps * options_.batch)),
               tokens(token_rows(model.chat_format(), data_.held_out))};
  const FitSeconds seconds = seconds_beside_training(estimate, model.config, work);
  const double healing = arguments_.seconds > 0 ? std::min(seconds.healing, kHealingShare * arguments_.seconds) : seconds.healing;
  return seconds.compressing + healing + seconds.measuring;
}

// A time budget becomes a number of steps, so that warm-up and decay fit into it.
int64_t Fit::steps_in_time(Model& model, const std::vector<TokenRow>& rows) const {
  if (arguments_.seconds <= 0) return options_.max_steps;
  const TrainEstimate estimate = estimate_training(model, rows, options_);
  const double beside = beside_training(model, estimate, rows), room = arguments_.seconds - beside;
  if (estimate.seconds <= room || estimate.steps < 1) return options_.max_steps;
  const int64_t steps = int64_t(double(estimate.steps) * room / estimate.seconds);
  if (steps < std::min(kLeastSteps, estimate.steps))
    throw refused(
        "--time",
        format_seconds(arguments_.seconds) + " is too short: compressing and measuring take about " + format_seconds(beside) +
            ", training all " + std::to_string(estimate.steps) + " steps " + format_seconds(estimate.seconds),
        "give it " + format_seconds(1.1 * (beside + estimate.seconds * double(kLeastSteps) / double(estimate.steps))) + " at least");
  say("to keep within " + format_seconds(arguments_.seconds) + ": " + std::to_string(steps) + " of " + std::to_string(estimate.steps) +
      " steps");
  return steps;
}

Json Fit::tune() {
  const Json inputs = {base_digest_, rows_digest_, options_json(options_), arguments_.seconds};
  folder_->require_same("tune", digest_of(inputs));
  const Json plan = once("time", inputs, {}, [&](bool) {  // kept: a resumed run shall train as many steps as it began with
    auto model = Model::open(base_);
    return Json{{"max_steps", steps_in_time(*model, token_rows(model->chat_format(), train_))}};
  });
  options_.max_steps = plan.at("max_steps");
  return once("tune", inputs, {"adapter.gguf", "metrics.jsonl"}, [&](bool resumable) {
    auto model = Model::open(base_);
    const ChatFormat format = model->chat_format();
    const std::vector<TokenRow> rows = token_rows(format, train_);
    options_.resume = resumable;
    return run_training(*model, rows, token_rows(format, watched_), options_, folder_->path(), "tune", arguments_.base);
  });
}

Json Fit::merge_adapter() {
  return once("merge", {base_digest_, folder_->digest("tune", "adapter.gguf")}, {"tuned.gguf"}, [&](bool) {
    auto model = Model::open(base_);
    const LoraFile lora = read_adapter(folder_->file("adapter.gguf"), *model);
    Pool pool(context_.threads);
    merge(*model, lora, folder_->file("tuned.gguf"), "F16", pool);
    const uint64_t bytes = fs::file_size(folder_->file("tuned.gguf"));
    say("tuned.gguf, " + format_bytes(double(bytes)));
    return Json{{"bytes", bytes}};
  });
}

// Bytes that all size rules allow; 0: none.
uint64_t Fit::size_limit() const {
  uint64_t limit = 0;
  for (const Rule& rule : rules_)
    if (rule.metric == "size") {
      const uint64_t bytes = uint64_t(rule.value) - (rule.comparison == "<" ? 1 : 0);
      limit = limit ? std::min(limit, bytes) : bytes;
    }
  return limit;
}

Json Fit::compress_now() {
  auto model = Model::open(folder_->file("tuned.gguf"));
  const ChatFormat format = model->chat_format();
  std::vector<std::vector<int>> rows;
  for (const Example& example : train_) {
    if (rows.size() == kCalibrationRows) break;
    rows.push_back(format.train_row(example).ids);
    if (rows.back().size() > size_t(options_.max_tokens)) rows.back().resize(size_t(options_.max_tokens));
  }
  Pool pool(context_.threads);
  std::optional<Calibration> calibration;
  {
    Progress progress("calibrate on your examples", int64_t(rows.size()), "rows");
    calibration.emplace(
        std::move(model), rows, pool, [&](size_t done, size_t total) { progress.update(int64_t(done * rows.size() / total)); },
        Calibration::Limits{});
    progress.finish();
  }
  write_imatrix(folder_->file("importance.gguf"), calibration->importance(), arguments_.data);
  QuantizeOptions options;
  options.size_bytes = size_limit();
  options.origin = base_;
  options.calibration = &*calibration;
  Progress progress("quantize", int64_t(fs::file_size(folder_->file("tuned.gguf"))), "B");
  const QuantizeResult result =
      quantize(folder_->file("tuned.gguf"), folder_->file("quantized.gguf"), options, pool, [&](uint64_t done, uint64_t total) {
        progress.update(int64_t(double(done) / double(total) * double(fs::file_size(folder_->file("tuned.gguf")))));
      });
  progress.finish(format_bytes(double(result.bytes)));
  for (const std::string& remark : result.remarks) say(remark);
  return {{"bytes", result.bytes},
          {"bits_per_weight", result.bits_per_weight},
          {"types", result.types},
          {"remarks", result.remarks},
          {"size_limit", size_limit()}};
}

// The rows that training saw, and those whose loss it watched: the held-out ones stay unseen.
Json Fit::heal_now(bool resumable) {
  HealArguments a{folder_->file("quantized.gguf"),
                  folder_->file("tuned.gguf"),
                  folder_->file("compressed.gguf"),
                  folder_->file("heal"),
                  {},
                  {},
                  options_};
  {
    auto model = Model::open(a.quantized);
    const ChatFormat format = model->chat_format();
    a.rows = token_rows(format, train_);
    a.watched = token_rows(format, watched_);
  }
  a.options.epochs = 1;
  a.options.max_steps = kHealingSteps;
  a.options.resume = resumable;
  a.seconds = kHealingShare * arguments_.seconds;
  return heal(a);
}

Json Fit::compress() {
  const Json inputs = {folder_->digest("merge", "tuned.gguf"), rows_digest_, size_limit(), FETTLE_VERSION};
  Json result = once("compress", inputs, {"quantized.gguf", "importance.gguf"}, [&](bool) { return compress_now(); });
  result["heal"] = once("heal", {folder_->digest("compress", "quantized.gguf"), rows_digest_, arguments_.seconds}, {"compressed.gguf"},
                        [&](bool resumable) { return heal_now(resumable); });
  return result;
}

std::string percent_text(const Interval& score) {
  char text[64];
  std::snprintf(text, sizeof text, "%.1f %% (%.1f to %.1f)", score.value * 100, score.low * 100, score.high * 100);
  return text;
}

Scored Fit::score(const std::string& which, const fs::path& file, const std::string& digest) {
  Json result = once("evaluate-" + which, {digest, rows_digest_, closed()}, {},
                     [&](bool) { return scored_json(score_file(file, data_.held_out, closed(), context_, "evaluate " + which)); });
  return scored_from(result);
}

Json Fit::evaluate() {
  scored_base_ = score("base", base_, base_digest_);
  scored_tuned_ = score("tuned", folder_->file("tuned.gguf"), folder_->digest("merge", "tuned.gguf"));
  scored_compressed_ = score("compressed", folder_->file("compressed.gguf"), folder_->digest("heal", "compressed.gguf"));
  const Interval& base = scored_base_.score.score;
  if (scored_tuned_.score.score.low <= base.value)
    warn("training is not shown to have helped: " + percent_text(scored_tuned_.score.score) + " right, the base " + percent_text(base));
  const MeasuredModel models[] = {{"base", base_, &scored_base_},
                                  {"tuned", folder_->file("tuned.gguf"), &scored_tuned_},
                                  {"compressed", folder_->file("compressed.gguf"), &scored_compressed_}};
  add_scores(document_, models);
  add_flips(document_, scored_tuned_.score, scored_compressed_.score, data_.held_out);
  if (closed()) document_["confusion"] = confusion_of(scored_compressed_.score);
  return {{"task", scored_base_.score.task}, {"rows", scored_base_.score.rows}};
}

std::optional<Interval> Fit::measure_kl() {
  if (!asks("kl") && closed()) return std::nullopt;
  const Json inputs = {folder_->digest("merge", "tuned.gguf"), folder_->digest("heal", "compressed.gguf"), rows_digest_};
  const Json result = once("kl", inputs, {}, [&](bool) {
    const Score kl = kl_between(folder_->file("compressed.gguf"), folder_->file("tuned.gguf"), data_.held_out, context_, "kl");
    return Json{{"value", kl.score.value}, {"low", kl.score.low}, {"high", kl.score.high}, {"same_top1", kl.same_top1}};
  });
  document_["kl"] = result;
  return Interval{result.at("value"), result.at("low"), result.at("high")};
}

Json Fit::lineage() const {
  Json recipe = new_recipe("fit", context_);
  recipe["base"] = {{"model", arguments_.base}, {"digest", base_digest_}};
  recipe["data"] = {{"source", arguments_.data}, {"digest", data_.data.digest}};
  recipe["held_out"] = {{"source", arguments_.held_out}, {"digest", data_.held_out_data.digest}};
  recipe["options"] = options_json(options_);
  recipe["target"] = arguments_.target;
  recipe["digests"] = {{"adapter", folder_->digest("tune", "adapter.gguf")},
                       {"tuned", folder_->digest("merge", "tuned.gguf")},
                       {"compressed", folder_->digest("heal", "compressed.gguf")}};
  Json seconds = Json::object();
  for (const Json& s : document_["stages"]) seconds[s["name"].get<std::string>()] = s["seconds"];
  recipe["seconds"] = seconds;
  recipe["table"] = document_["table"];
  recipe["gates"] = document_["gates"];
  return recipe;
}

// A run that is resumed after registering does not register again.
ModelRecord Fit::register_model() {
  Registry registry;
  const std::string state = document_["passed"].get<bool>() ? "ready" : "failed-gate";
  const std::string digest = folder_->digest("heal", "compressed.gguf");
  for (const ModelRecord& record : registry.list())
    if (record.name == name_ && record.digest == digest && record.state == state && record.recipe.is_object() &&
        record.recipe.value("target", "") == arguments_.target)
      return record;
  return registry.add(name_, folder_->file("compressed.gguf"), state, document_["recipe"]);
}

Json Fit::gate() {
  Measured measured{double(fs::file_size(folder_->file("compressed.gguf"))),
                    &scored_base_.score,
                    &scored_tuned_.score,
                    &scored_compressed_.score,
                    scored_compressed_.seconds_per_token,
                    measure_kl()};
  std::vector<GateResult> results;
  for (const Rule& rule : rules_) results.push_back(judge(rule, measured));
  add_verdicts(document_, results);
  document_["recipe"] = lineage();
  const ModelRecord record = register_model();
  document_["model"] = record.label();
  document_["state"] = record.state;
  document_["run"] = folder_->path().string();
  document_["replay"] = fresh_command(context_);
  document_["curve"] = loss_curve(folder_->file("metrics.jsonl"));
  const std::string label = record.state == "ready" ? name_ : record.label();
  document_["next"] = Json::array(
      {"fettle serve " + label, "curl -s http://127.0.0.1:8484/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\": \"" +
                                    label + "\", \"messages\": [{\"role\": \"user\", \"content\": \"...\"}]}'"});
  if (record.state != "ready")
    document_["next"].push_back(folder_->resume_command(context_) + " --target '...'  (another target reuses what is trained)");
  document_["report"] = folder_->file("report.html").string();
  write_text(folder_->file("recipe.json"), document_["recipe"].dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  write_text(folder_->file("fit.json"), document_.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  write_text(folder_->file("report.html"), render_report(document_));
  return {{"model", record.label()}, {"state", record.state}};
}

Json Fit::plan() {
  take_base();
  read_rows();
  auto model = Model::open(base_);
  const std::vector<TokenRow> rows = token_rows(model->chat_format(), train_);
  options_.max_steps = steps_in_time(*model, rows);
  const TrainEstimate estimate = estimate_training(*model, rows, options_);
  document_["dry_run"] = true;
  document_["passed"] = true;
  document_["data"] = report_json(data_);
  document_["plan"] = estimate_json(estimate);
  const double seconds = estimate.seconds + beside_training(*model, estimate, rows);
  document_["plan"]["seconds"] = seconds;
  document_["plan"]["energy_wh"] = estimate.energy_wh * seconds / std::max(1e-9, estimate.seconds);
  const double merged = double(model->parameters()) * 2, compressed = size_limit() ? double(size_limit()) : merged / 3;
  document_["plan"]["disk_bytes"] = estimate.disk_bytes + merged + compressed;
  say("would train " + std::to_string(estimate.steps) + " steps on " + format_count(double(estimate.tokens)) + " tokens, " +
      format_seconds(estimate.seconds) + ", and compress and measure: about " + format_seconds(seconds) + " in all, " +
      format_bytes(estimate.memory_bytes) + " of memory, " + format_bytes(estimate.disk_bytes + merged + compressed) + " of disk");
  return document_;
}

}  // namespace

TrainOptions fit_training() {
  TrainOptions options;
  options.epochs = 3;
  options.max_tokens = 1024;
  options.patience = 0;
  return options;
}

Json fit(const FitArguments& arguments, const StageContext& context) { return Fit(arguments, context).run(); }

}  // namespace fettle
