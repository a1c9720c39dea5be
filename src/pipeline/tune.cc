// The stage `tune`: rows in, adapter out, in a run folder that tells how it came about.
#include <cmath>

#include "format/format.h"
#include "pipeline/stage.h"

namespace fettle {
namespace {

// --ids: ready rows {"ids": [...], "labels": [...]}, -100 where no loss is.
std::vector<int> id_list(const nlohmann::json& row, const char* key, int vocabulary, bool masks, const std::string& place) {
  if (!row.is_object() || !row.contains(key) || !row[key].is_array())
    throw refused(place, std::string("has no list \"") + key + "\"", "rows read {\"ids\": [...], \"labels\": [...]}");
  std::vector<int> ids;
  for (const auto& value : row[key]) {
    const bool whole = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() < 1u << 30);
    const int64_t id = whole ? value.get<int64_t>() : -1;
    if (!(id >= 0 && id < vocabulary) && !(masks && id == -100))
      throw refused(place, std::string("\"") + key + "\" holds " + value.dump() + ", which is no id of this model",
                    "ids run from 0 to " + std::to_string(vocabulary - 1));
    ids.push_back(int(id));
  }
  return ids;
}

std::vector<TokenRow> read_id_rows(const std::string& path, int vocabulary) {
  MappedFile file{fs::path(path)};
  std::vector<TokenRow> rows;
  int64_t number = 0;
  for (std::string_view rest = file.text(); !rest.empty();) {
    const size_t end = rest.find('\n');
    const std::string_view line = trim(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    number++;
    if (line.empty()) continue;
    stop_if_interrupted();
    const std::string place = path + ":" + std::to_string(number);
    const auto row = nlohmann::json::parse(line, nullptr, false);
    if (row.is_discarded()) throw refused(place, "is no JSON");
    TokenRow r{id_list(row, "ids", vocabulary, false, place), id_list(row, "labels", vocabulary, true, place), int64_t(rows.size())};
    if (r.ids.size() != r.labels.size() || r.ids.size() < 2)
      throw refused(place, "has " + std::to_string(r.ids.size()) + " ids and " + std::to_string(r.labels.size()) + " labels",
                    "a row has as many labels as ids, two at least");
    rows.push_back(std::move(r));
  }
  if (rows.empty()) throw refused(path, "holds no rows");
  return rows;
}

struct Rows {
  std::vector<TokenRow> train, held_out;
  Json data;
};

Rows rows_for(const TuneArguments& arguments, Model& model, const StageContext& context) {
  Rows rows;
  if (!arguments.ids_file.empty()) {
    rows.train = read_id_rows(arguments.ids_file, model.config.vocabulary);
    if (!arguments.held_out.empty()) rows.held_out = read_id_rows(arguments.held_out, model.config.vocabulary);
    rows.data = {{"ids", arguments.ids_file}, {"rows", rows.train.size()}, {"digest", sha256_file(arguments.ids_file)}};
  } else {
    if (arguments.data.empty()) throw usage("tune needs examples: a data file, or --ids");
    const PreparedData data = prepare_data(arguments.data, arguments.held_out, kHeldOutShare, arguments.skip_bad, context.seed);
    const ChatFormat format = model.chat_format();
    prove_and_show(format, data.train);
    rows.train = token_rows(format, data.train);
    rows.held_out = token_rows(format, data.held_out);
    rows.data = report_json(data);
    rows.data["source"] = arguments.data;
  }
  rows.data["tokens"] = statistics_json(token_statistics(rows.train, arguments.options.max_tokens));
  return rows;
}

TrainOptions full_options(const TuneArguments& arguments, const Model& model, const StageContext& context) {
  TrainOptions options = arguments.options;
  options.seed = context.seed;
  options.threads = context.threads;
  options.memory_bytes = context.memory_bytes;
  if (!arguments.init_adapter.empty()) options.init_adapter = read_adapter(arguments.init_adapter, model);
  return options;
}

}  // namespace

Json options_json(const TrainOptions& o) {
  const char* precision = o.precision == Precision::exact ? "f32" : "bf16";
  return {{"method", o.method},
          {"rank", o.rank},
          {"alpha", o.alpha},
          {"targets", o.targets},
          {"lr", o.lr},
          {"weight_decay", o.weight_decay},
          {"clip", o.clip},
          {"schedule", o.schedule},
          {"warmup", o.warmup},
          {"epochs", o.epochs},
          {"max_steps", o.max_steps},
          {"batch", o.batch},
          {"pack", {o.pack_rows, o.pack_tokens}},
          {"max_tokens", o.max_tokens},
          {"shuffle", o.shuffle},
          {"dtype", precision},
          {"seed", o.seed},
          {"patience", o.patience},
          {"eval_every", o.eval_every}};
}

// --method full: the model's linears are views of trained f32 values now, which are written as F16. --method scales: of blocks that are
// written as they are. Everything else stays. Experts are written one by one, for each is a linear; the writer stacks them again.
static void write_trained(Model& model, const fs::path& path) {
  const Format* half = find_format("F16");
  GgufWriter writer;
  writer.copy_metadata(*model.file);
  std::vector<std::byte> blocks;
  bool halves = false;
  std::map<std::string, const Linear*> linears;
  for (const Linear* l : model.linears()) linears[l->name] = l;
  std::vector<NamedTensor> tensors;
  for (const NamedTensor& t : model.file->tensors()) {
    const int experts = t.tensor.shape.n == 3 && linears.count(expert_name(t.name, 0)) ? int(t.tensor.shape.dim[0]) : 0;
    if (!experts) tensors.push_back(t);
    for (int e = 0; e < experts; e++) tensors.push_back({expert_name(t.name, e), expert_of(t.tensor, e)});
  }
  for (const NamedTensor& t : tensors) {
    const auto found = linears.find(t.name);
    const Linear* linear = found == linears.end() ? nullptr : found->second;
    const bool trained = linear && linear->weight.bytes.data() != t.tensor.bytes.data();
    if (trained && linear->weight.format->group > 0) {
      writer.add(t.name, t.tensor.format, t.tensor.shape, [linear]() -> std::span<const std::byte> { return linear->weight.bytes; });
      continue;
    }
    halves |= trained;
    writer.add(t.name, trained ? half : t.tensor.format, t.tensor.shape,
               [&t, &blocks, linear, trained, half]() -> std::span<const std::byte> {
                 stop_if_interrupted();
                 if (!trained) return t.tensor.bytes;
                 const Tensor& w = linear->weight;
                 std::vector<float> row(size_t(w.shape.cols()));
                 const size_t row_bytes = size_t(half->bytes_for(w.shape.cols())), from_bytes = size_t(w.format->bytes_for(w.shape.cols()));
                 blocks.resize(row_bytes * size_t(w.shape.rows()));
                 for (int64_t i = 0; i < w.shape.rows(); i++) {
                   w.format->decode(w.bytes.data() + from_bytes * size_t(i), row.data(), w.shape.cols());
                   half->encode(row.data(), blocks.data() + row_bytes * size_t(i), w.shape.cols(), nullptr);
                 }
                 return blocks;
               });
  }
  if (halves) writer.set_integer("general.file_type", uint32_t(half->file_type));
  writer.write(path);
}

Json estimate_json(const TrainEstimate& e) {
  return {{"steps", e.steps},
          {"tokens", e.tokens},
          {"trained_parameters", e.trained_parameters},
          {"seconds", e.seconds},
          {"memory_bytes", e.memory_bytes},
          {"disk_bytes", e.disk_bytes},
          {"energy_wh", e.energy_wh}};
}

Json run_training(Model& model, const std::vector<TokenRow>& rows, const std::vector<TokenRow>& held_out, TrainOptions options,
                  const fs::path& folder, const std::string& label, const std::string& base_name) {
  options.resume = options.resume && fs::exists(folder / "checkpoint");
  if (options.lr == 0) options.lr = usual_learning_rate(model.config, options.method);
  const TrainEstimate estimate = estimate_training(model, rows, options);
  if (options.memory_bytes > 0 && estimate.memory_bytes > double(options.memory_bytes))
    throw refused("--memory",
                  "training takes about " + format_bytes(estimate.memory_bytes) + ", more than the " +
                      format_bytes(double(options.memory_bytes)) + " allowed",
                  "a smaller --batch with --accumulate, a smaller --max-tokens or --rank");
  std::optional<Progress> progress;
  // a resumed run's bar begins where its checkpoint stands, which its first step tells
  if (!options.resume) progress.emplace(label, estimate.tokens, "tokens");
  std::string held_out_loss;
  const TrainResult result = train(model, rows, held_out, options, folder, [&](const StepLog& log) {
    if (log.eval_loss) held_out_loss = ", held-out loss " + std::to_string(*log.eval_loss).substr(0, 6);
    if (!progress) progress.emplace(label, estimate.tokens, "tokens", log.tokens);
    progress->value(log.loss);
    progress->update(log.tokens, "step " + std::to_string(log.step) + " of " + std::to_string(estimate.steps) + held_out_loss);
  });
  if (!progress) progress.emplace(label, estimate.tokens, "tokens", result.tokens);  // no step was left to take
  if (result.last_loss > 1.2 * result.first_loss)
    warn("the loss grew: the model is worse than before on these rows; a smaller --lr than " + std::to_string(options.lr).substr(0, 8) +
         " may help");
  progress->finish("loss " + std::to_string(result.first_loss).substr(0, 6) + " to " + std::to_string(result.last_loss).substr(0, 6) +
                   held_out_loss);
  Json document = {{"run", folder.string()},
                   {"lr", options.lr},
                   {"steps", result.steps},
                   {"epochs", result.epochs},
                   {"tokens", result.tokens},
                   {"tokens_per_s", result.tokens_per_s},
                   {"trained_parameters", result.trained_parameters},
                   {"first_loss", result.first_loss},
                   {"last_loss", result.last_loss},
                   {"best_eval_loss", nullptr},
                   {"stopped_because", result.stopped_because},
                   {"truncated_rows", result.truncated_rows}};
  if (options.method != "lora") {
    write_trained(model, folder / "model.gguf");
    document["adapter"] = nullptr;
    document["model"] = (folder / "model.gguf").string();
  } else {
    const LoraFile lora = model.lora(options.alpha);
    write_lora_gguf(folder / "adapter.gguf", lora);
    document["adapter"] = (folder / "adapter.gguf").string();
    document["adapter_peft"] = nullptr;
    try {
      write_lora_peft(folder / "adapter", lora, model.lora_base(), base_name);
      document["adapter_peft"] = (folder / "adapter").string();
    } catch (const Error& e) {  // what was trained is kept whether PEFT has names for it or not
      if (e.code != Exit::refused) throw;
      warn("there is no PEFT folder of this adapter, only adapter.gguf: " + e.text());
    }
  }
  if (result.has_eval) document["best_eval_loss"] = result.best_eval_loss;
  if (result.truncated_rows)
    warn(std::to_string(result.truncated_rows) + " rows were longer than --max-tokens " + std::to_string(options.max_tokens) +
         " and were cut");
  return document;
}

Json tune_stage(const TuneArguments& arguments, const StageContext& context) {
  const double start = now_seconds();
  const fs::path base = resolve_model(arguments.model, context.offline);
  auto model = Model::open(base);
  TrainOptions options = full_options(arguments, *model, context);
  const Rows rows = rows_for(arguments, *model, context);
  std::shared_ptr<Model> teacher;
  if (!arguments.teacher.empty()) {
    const fs::path path = resolve_model(arguments.teacher, context.offline);
    teacher = Model::open(path);
    if (!model->same_tokens(*teacher))
      throw refused(path.string(), "has another tokenizer than " + base.string(), "a teacher speaks the student's tokens");
    options.teacher = teacher.get();
  }
  if (context.dry_run)
    return {{"dry_run", true},
            {"model", base.string()},
            {"data", rows.data},
            {"plan", estimate_json(estimate_training(*model, rows.train, options))}};
  const std::string source = arguments.ids_file.empty() ? arguments.data : arguments.ids_file;
  RunFolder folder(arguments.out, "tune", source_path(source).stem().string(), context);
  Json inputs = {{"base", model_digest(base)}, {"data", rows.data}, {"options", options_json(options)}};
  if (teacher) inputs["teacher"] = model_digest(teacher->file->path());
  const std::string key = digest_of(inputs);
  folder.require_same("tune", key);
  if (auto before = folder.done("tune", key)) {
    say("this run is done already");
    return *before;
  }
  options.resume = folder.begin("tune", key);
  Json document;
  try {
    document = run_training(*model, rows.train, rows.held_out, options, folder.path(), "tune", arguments.model);
  } catch (const Error& error) {
    if (error.code != Exit::interrupted) throw;
    throw Error(error.code, error.place, error.what(), folder.way_on(context));
  }
  Json recipe = new_recipe("tune", context);
  recipe["model"] = arguments.model;
  recipe["inputs"] = inputs;
  recipe["result"] = document;
  recipe["seconds"] = now_seconds() - start;
  write_text(folder.file("recipe.json"), recipe.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  document["data"] = rows.data;
  const bool whole = options.method != "lora";
  document["next"] =
      Json::array({options.method == "full"     ? "fettle quantize " + folder.file("model.gguf").string()
                   : options.method == "scales" ? "fettle eval " + folder.file("model.gguf").string() + " --data DATA"
                                                : "fettle merge " + arguments.model + " " + folder.file("adapter.gguf").string()});
  folder.record("tune", key, document, {whole ? "model.gguf" : "adapter.gguf", "metrics.jsonl", "recipe.json"});
  return document;
}

}  // namespace fettle
