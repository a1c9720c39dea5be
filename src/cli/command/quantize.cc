// quantize: one smaller file: of a type, or to a size, a width or a loss. Choosing codes is compress's; here is the search over types for
// --kl, the measuring and the recipe.
#include "cli/measure.h"
#include "cli/quantizing.h"
#include "cli/table.h"
#include "cli/training_flags.h"

namespace fettle {
namespace {

// Types from small to large: what --kl tries. Larger types lose less, nearly always, so that halving finds the smallest that is good
// enough.
const char* const kLadder[] = {"Q2_K", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"};

struct Arguments {
  std::string model, type, importance, measure, base;
  std::vector<std::string> overrides;
  uint64_t size_bytes = 0;
  double bits = 0, kl = 0, heal_seconds = 0;
  int64_t importance_rows = 256;
  QuantizeOptions quantize;
};

// A file or folder that goes again, however its maker ends.
struct Leftover {
  fs::path path;
  ~Leftover() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

struct Source {
  fs::path path;
  uint64_t bytes = 0, tensor_bytes = 0;
  int64_t parameters = 0;
  std::string digest;
  Json lineage;
};

// Error{refused}: what `fettle run` would not load. A smaller file of it would be of no use either.
Source examine(const fs::path& path) {
  const auto model = Model::open(path);
  const Gguf& file = *model->file;
  Source s{path, file.file_bytes(), 0, 0, model_digest(path), read_lineage(path)};
  for (const NamedTensor& t : file.tensors()) {
    s.parameters += t.tensor.shape.count();
    s.tensor_bytes += t.tensor.bytes.size();
  }
  return s;
}

std::map<std::string, std::string> overrides_of(const std::vector<std::string>& rules) {
  std::map<std::string, std::string> overrides;
  for (const std::string& rule : rules) {
    const size_t equals = rule.find('=');
    if (equals == rule.npos || equals == 0) throw usage("--tensor: '" + rule + "' is not NAME=TYPE", "write token_embd=Q6_K");
    overrides[rule.substr(0, equals)] = rule.substr(equals + 1);
  }
  return overrides;
}

void check(const Arguments& a) {
  if ((a.size_bytes > 0) + (a.bits > 0) + (a.kl > 0) + !a.type.empty() > 1)
    throw usage("--type, --size, --bits and --kl exclude each other", "--tensor NAME=TYPE sets the type of single tensors");
  check_type(a.quantize.type);
  for (const auto& [part, type] : a.quantize.overrides)
    if (!find_format(type)) check_type(type);  // a format that is not written is substituted
  if (!a.quantize.method.empty()) find_method(a.quantize.method);
  if (a.bits < 0 || a.bits > 32) throw usage("--bits: from 0 to 32");
  if (a.kl < 0) throw usage("--kl: not below 0");
  if (a.importance_rows < 1) throw usage("--importance-rows: at least 1");
  if (a.heal_seconds > 0 && a.importance.empty()) throw usage("--heal needs rows to train on", "--importance DATA");
  if (a.heal_seconds > 0 && is_imatrix(a.importance))
    throw usage("--heal needs rows to train on, and " + a.importance + " holds sums over rows only", "--importance with the examples");
  if (!a.quantize.method.empty() && find_method(a.quantize.method).uses_covariance && (a.importance.empty() || is_imatrix(a.importance)))
    throw usage("the method " + a.quantize.method + " needs examples or text to calibrate on", "--importance DATA");
  if (a.kl > 0 && a.measure.empty() && a.importance.empty())
    throw usage("--kl needs data to measure on", "--measure DATA, or --importance DATA");
}

std::string size_word(const Arguments& a) {
  if (a.size_bytes) return std::to_string(a.size_bytes / 1000000) + "mb";
  if (a.bits > 0) return number("%.2fbit", a.bits);
  return a.kl > 0 ? "kl" : a.quantize.type;
}

// What running the model on the data will take: calibrating and choosing codes by it, healing.
Needs needs_of_running(const Arguments& a, const Source& s, const Common& common) {
  if (a.importance.empty() || is_imatrix(a.importance)) return {};
  auto model = Model::open(s.path);
  std::vector<TokenRow> rows;
  for (std::vector<int>& ids : rows_of(*model, read_eval_data(a.importance, true, a.importance_rows), a.importance_rows))
    rows.push_back({ids, ids, int64_t(rows.size())});
  TrainOptions options;
  options.epochs = 1;
  options.threads = common.stage.threads;
  const TrainEstimate training = estimate_training(*model, rows, options);
  return {seconds_beside_training(training, model->config, {double(training.tokens), 0, 0}).compressing + a.heal_seconds,
          a.heal_seconds > 0 ? training.memory_bytes : 0, 0};
}

// Measuring takes more, how long depends on the data; --kl tries three of the ladder's types.
Json plan(const Arguments& a, const Source& s, const fs::path& out, const Common& common) {
  constexpr double kRunBytes = 1.5;  // of a weight, in the panels of a model that runs
  if (is_imatrix(a.importance)) measure_inputs(a.importance, s.path, a.importance_rows, common.stage);  // refuses another model's
  QuantizePlan quantizing = plan_quantizing(s.path, out, a.quantize, common.stage.threads);
  Needs needs = quantizing.needs;
  if (!a.importance.empty() || !a.measure.empty()) needs.memory_bytes += kRunBytes * double(s.parameters);
  if (a.kl > 0) needs.seconds *= 3, needs.disk_bytes *= 2;
  needs.then(needs_of_running(a, s, common));
  const std::string type = a.kl > 0                    ? "the smallest type within a KL of " + number("%.4g", a.kl)
                           : a.quantize.size_bytes > 0 ? "types that fit into " + format_bytes(double(a.quantize.size_bytes))
                                                       : a.quantize.type;
  Json document = {{"source", a.model},
                   {"source_bytes", s.bytes},
                   {"parameters", s.parameters},
                   {"type", a.quantize.size_bytes ? "mixed" : a.quantize.type}};
  document.update(dry_run_document(a.model + ", " + format_bytes(double(s.bytes)) + ", to " + type, {out}, needs, common.stage.threads));
  document["plan"].update(quantize_json(quantizing.result));
  return document;
}

// Ctrl-C in `work` ends with what is there all the same.
template <class F>
auto with_kept(const std::function<std::string()>& kept, F&& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.code != Exit::interrupted) throw;
    throw Error(error.code, error.place, error.what(), kept());
  }
}

double measured_kl(const fs::path& candidate, const std::shared_ptr<Model>& reference, const EvalData& data, const Common& common,
                   Json& document) {
  MeasureOptions options;
  options.max_chunks = 24;
  Json score = score_json(measure("kl", Model::open(candidate), reference.get(), data, options, common.stage));
  for (const char* key : {"kl_mean", "kl_stderr", "kl_p99", "same_top1"}) document[key] = score[key];
  return score["kl_mean"];
}

struct Found {
  std::optional<size_t> best;  // of the ladder; its file is there
  QuantizeResult result;
  Json pareto = Json::array();
};

// Halves the ladder; every type tried is a point of the Pareto list.
void climb(Found& found, const Arguments& a, const fs::path& source, const fs::path& out, const EvalData& data, const Common& common,
           Json& document) {
  auto reference = Model::open(source);
  QuantizeOptions options = a.quantize;
  size_t low = 0, high = std::size(kLadder);
  fs::path trial = out;
  trial += ".trial";
  const Leftover cleaner{trial};
  while (low < high) {
    size_t middle = (low + high) / 2;
    options.type = kLadder[middle];
    QuantizeResult tried = quantize_with_progress("quantize", source, trial, options, common.stage.threads);
    Json point = {{"model", options.type}, {"bytes", tried.bytes}};
    double kl = measured_kl(trial, reference, data, common, point);
    point["score"] = kl;
    point["low"] = std::max(0.0, kl - 1.96 * point["kl_stderr"].get<double>());
    point["high"] = kl + 1.96 * point["kl_stderr"].get<double>();
    found.pareto.push_back(point);
    if (kl <= a.kl) {
      fs::rename(trial, out);
      found.best = middle, found.result = std::move(tried), high = middle;
      for (const char* key : {"kl_mean", "kl_stderr", "kl_p99", "same_top1"}) document[key] = point[key];
    } else {
      low = middle + 1;
    }
  }
}

// The smallest type of the ladder within the loss.
QuantizeResult search_type(const Arguments& a, const fs::path& source, const fs::path& out, const EvalData& data, const Common& common,
                           Json& document) {
  Found found;
  with_kept([&] { return found.best ? out.string() + " is whole: " + kLadder[*found.best] + ", the smallest type so far" : ""; },
            [&] { climb(found, a, source, out, data, common, document); });
  if (!found.best)
    throw refused(a.model, "no type stays within a KL of " + number("%.4g", a.kl),
                  "Q8_0 is the largest that was tried; allow more, or convert to F16");
  std::sort(found.pareto.begin(), found.pareto.end(),
            [](const Json& x, const Json& y) { return x["bytes"].get<uint64_t>() < y["bytes"].get<uint64_t>(); });
  document["type"] = kLadder[*found.best];
  document["pareto"] = std::move(found.pareto);
  return std::move(found.result);
}

// What is kept beside the file; written before healing and measuring too, because those may be interrupted.
void save_recipe(const Arguments& a, const Source& source, const fs::path& out, const Json& document, double start, const Common& common) {
  Json recipe = new_recipe("quantize", common.stage);
  recipe["inputs"] = {{"source", source.digest},     {"type", document["type"]},   {"size_bytes", a.quantize.size_bytes},
                      {"method", a.quantize.method}, {"importance", a.importance}, {"heal_seconds", a.heal_seconds}};
  recipe["result"] = {{"bytes", document["bytes"]}, {"types", document["types"]}};
  if (document.contains("kl_mean")) recipe["result"]["kl_mean"] = document["kl_mean"];
  recipe["lineage"] = source.lineage;
  recipe["seconds"] = now_seconds() - start;
  write_recipe(out, recipe);
}

// The same file with better scales. What training leaves behind goes again; an interrupted one leaves the file as it was quantized.
Json heal_file(const Arguments& a, const Source& source, const fs::path& out, const Common& common) {
  HealArguments h{out, source.path, out, out, {}, {}, {}, a.heal_seconds};
  h.folder += ".heal";
  h.options.seed = common.stage.seed;
  h.options.threads = common.stage.threads;
  h.options.memory_bytes = common.stage.memory_bytes;
  auto model = Model::open(out);
  const std::vector<std::vector<int>> rows = rows_of(*model, read_eval_data(a.importance, true, 0), 0);
  model.reset();
  constexpr size_t kEach = 16;  // one row of so many is watched
  for (size_t i = 0; i < rows.size(); i++) {
    TokenRow row{rows[i], std::vector<int>(rows[i].size(), -100), int64_t(i)};
    (i % kEach == kEach - 1 ? h.watched : h.rows).push_back(std::move(row));
  }
  if (h.watched.empty()) throw refused(a.importance, "has too few rows to heal with", "at least " + std::to_string(kEach));
  const Leftover cleaner{h.folder};
  Json result = heal(h);
  Json stage = {{"stage", "heal"}, {"data", a.importance}};
  stage.update(result);
  return stage;
}

// Fills what the options imply: the size that --bits stands for, what the source was trained from.
void resolve(Arguments& a, const Source& source, const Common& common) {
  a.quantize.size_bytes = a.size_bytes;
  a.quantize.origin = a.base.empty() ? base_of(source.lineage) : resolve_model(a.base, common.stage.offline);
  if (!a.quantize.origin.empty()) say("trained from " + a.quantize.origin.string() + ": types that would round that away are left out");
  if (a.bits > 0) a.quantize.size_bytes = uint64_t(a.bits / 8 * double(source.parameters)) + source.bytes - source.tensor_bytes;
}

MeasuredInputs calibrate(Arguments& a, const Source& source, const Common& common) {
  if (a.importance.empty()) return {};
  MeasuredInputs measured = measure_inputs(a.importance, source.path, a.importance_rows, common.stage);
  if (a.quantize.method.empty() && measured.calibration) a.quantize.method = "gptq";
  return measured;
}

Json run(Arguments a, const Common& common) {
  if (!a.type.empty()) a.quantize.type = a.type;
  a.quantize.overrides = overrides_of(a.overrides);
  check(a);
  double start = now_seconds();
  fs::path out = common.out.empty() ? fs::path(file_title(a.model) + "-" + size_word(a) + ".gguf") : common.out;
  check_output(out, common.stage.force);
  Source source = examine(resolve_model(a.model, common.stage.offline));
  resolve(a, source, common);
  const std::string measure_data = a.measure.empty() && a.kl > 0 ? a.importance : a.measure;
  EvalData data;
  if (!measure_data.empty()) data = read_eval_data(measure_data, true, 64);
  if (common.stage.dry_run) return plan(a, source, out, common);
  if (!a.importance.empty()) plan_quantize(source.path, out, a.quantize);  // refuses before the inputs are measured
  const MeasuredInputs measured = calibrate(a, source, common);
  if (!a.importance.empty()) a.quantize.importance = &measured.importance;
  a.quantize.calibration = measured.calibration.get();
  Json stages = Json::array();
  if (!measured.importance.empty())
    stages.push_back({{"stage", "importance"}, {"data", a.importance}, {"tensors", measured.importance.size()}});
  Json document = {{"model", out}, {"source", a.model}, {"type", a.quantize.size_bytes ? "mixed" : a.quantize.type}};
  QuantizeResult result = a.kl > 0 ? search_type(a, source.path, out, data, common, document)
                                   : quantize_with_progress("quantize", source.path, out, a.quantize, common.stage.threads);
  stages.push_back({{"stage", "quantize"}, {"type", document["type"]}, {"bytes", result.bytes}});
  document["parameters"] = source.parameters;
  document.update(quantize_json(result));
  save_recipe(a, source, out, document, start, common);
  if (a.heal_seconds > 0)
    stages.push_back(
        with_kept([&] { return out.string() + " is whole, as it was before healing"; }, [&] { return heal_file(a, source, out, common); }));
  document["stages"] = stages;
  if (!measure_data.empty() && (a.kl <= 0 || a.heal_seconds > 0))
    with_kept([&] { return out.string() + " is whole; only its measurement is missing"; },
              [&] { measured_kl(out, Model::open(source.path), data, common, document); });
  save_recipe(a, source, out, document, start, common);
  document["next"] = {"fettle eval " + out.string() + " --task kl --reference " + a.model + " --data DATA", "fettle bench " + out.string()};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("--type", a->type, "Q4_K_M, Q5_K_M, Q8_0, IQ4_XS, F16, … (default: " + a->quantize.type + ")").called("TYPE");
  o.bytes("--size", a->size_bytes, "choose types so that the file is at most this large");
  o.add("--bits", a->bits, "the same, as bits per weight").value.clear();
  o.add("--kl", a->kl, "the smallest type that loses at most this (mean KL to the source)").value.clear();
  o.add("--importance", a->importance, "weigh errors by what these examples, this text, or this imatrix file say").called("DATA");
  o.add("--importance-rows", a->importance_rows, "most rows of it to read");
  o.seconds("--heal", a->heal_seconds,
            "then train the blocks' scales on DATA, so that the model says what it said before, for about this time: 30min");
  o.add("--method", a->quantize.method,
        "how codes are chosen: gptq, weighted or rtn (default: gptq with DATA to calibrate on, else weighted)")
      .called("METHOD");
  o.add("--tensor", a->overrides, "a type for tensors of this name: token_embd=Q6_K (may be given several times)").called("NAME=TYPE");
  o.add("--base", a->base,
        "the model that this one was trained from, whose grid would round what was learned away (default: as merge noted)")
      .called("MODEL");
  o.add("--measure", a->measure, "measure the loss on this data afterwards").called("DATA");
  common.add_output(o, "file to write (default: MODEL-TYPE.gguf here)");
  common.add_long(o, false);
  return [a, &common] { return run(*a, common); };
}

void print(const Json& d) {
  std::string types;
  for (const auto& [name, count] : d["types"].items()) types += (types.empty() ? "" : ", ") + count.dump() + " " + name;
  std::vector<std::pair<std::string, std::string>> lines{
      {"file", d["model"]},
      {"size", format_bytes(d["bytes"]) + ", " + number("%.2f", d["bits_per_weight"]) + " bits per weight"},
      {"types", types}};
  if (d.contains("kl_mean"))
    lines.emplace_back("loss", "KL " + number("%.5f", d["kl_mean"]) + " ± " + number("%.5f", 1.96 * d["kl_stderr"].get<double>()) +
                                   ", same first choice " + percent(d["same_top1"]));
  std::fputs(pairs_text(lines).c_str(), stdout);
  for (const Json& remark : d["remarks"]) std::printf("note: %s\n", remark.get<std::string>().c_str());
}

}  // namespace

const Command command_quantize = {"quantize",
                                  "Shrink",
                                  "one smaller file: of a type, or to a size or a loss",
                                  "fettle quantize tickets.gguf --type Q4_K_M --importance tickets.jsonl\n"
                                  "fettle quantize tickets.gguf --size 85MB --importance tickets.jsonl --measure heldout.jsonl\n"
                                  "fettle quantize tickets.gguf --kl 0.02 --importance tickets.jsonl\n"
                                  "fettle quantize tickets.gguf --type Q4_0 --tensor token_embd=Q6_K --out small.gguf",
                                  setup,
                                  print};

}  // namespace fettle
