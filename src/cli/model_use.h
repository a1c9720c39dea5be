// Private to cli: what commands do alike: open a MODEL, read a DATA, answer a prompt, refuse to overwrite.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "engine/engine.h"

namespace fettle {

// ---- options
void add_model(Options& options, std::string& model);  // the argument MODEL, required
// --activations auto|f32: what serving computes, or plain arithmetic on the decoded weights.
void add_activations(Options& options, std::string& activations);
Precision activation_precision(const std::string& activations);
void add_sampling(Options& options, Sampling& sampling);
// --kv f16|q8_0|f32; kv stays what it is (nullptr: what the precision asks for) unless the option is given.
void add_kv(Options& options, const Format*& kv);
void add_engine(Options& options, EngineOptions& engine, std::string& draft);  // --context, --draft, --kv

// ---- models
std::shared_ptr<Model> open_model(const std::string& model, const StageContext& context);
// The draft model that was asked for; nullptr: none was.
std::shared_ptr<Model> open_draft(const std::string& draft, const StageContext& context);
// The engine for `model`: context cut to the model's, threads as asked.
std::unique_ptr<Engine> make_engine(std::shared_ptr<Model> model, EngineOptions options, const StageContext& context);
// "tickets:3" of ".../models/tickets/3/model.gguf" is asked of the registry; else the file's name without ending.
std::string model_title(const std::string& argument);
// {model, name, model_version, state, bytes, created, digest, path}: "version" is fettle's own, in every document.
Json record_json(const ModelRecord& record);
// What is known of a file's making: the recipe of its registry entry, else that in `file`.recipe.json; null when nothing is.
Json read_lineage(const fs::path& file);
// The file that a merged one was made of, as its lineage names it: by path, or the registry's of that digest; empty when it cannot be
// found.
fs::path base_of(const Json& lineage);
// Writes `file`.recipe.json.
void write_recipe(const fs::path& file, const Json& recipe);

// ---- files
// Error{usage} when `path` exists and force is off.
void refuse_existing(const fs::path& path, bool force);
// The same for a file that is written at the end of long work; Error{usage} besides when it can have no place there.
void check_output(const fs::path& file, bool force);
// "-" or empty: all of standard input, up to `limit` bytes.
std::string read_input(const std::string& path, size_t limit = size_t(1) << 30);
Json read_json(const std::string& path);
// Ids of a JSON array, each in [0, vocabulary).
std::vector<int> ids_of(const Json& array, int vocabulary, const std::string& place);
Json conversation(const Example& example);  // {"messages": [...]} as OpenAI writes it

// ---- data to measure on: examples, or plain text
struct EvalData {
  Dataset data;
  std::string text;
  bool plain = false;  // text, not examples
};
// .jsonl, .json, .csv and folders hold examples, everything else is text. Bad rows are refused unless skip_bad. limit > 0: first rows.
EvalData read_eval_data(const std::string& source, bool skip_bad, int64_t limit);

// ---- answering
struct Answered {
  std::string text;
  std::vector<int> ids;
  Finish finish = Finish::none;
  int prompt_tokens = 0, cached_tokens = 0;
  double first_token_seconds = 0, seconds = 0;
  // New tokens per second after the first one.
  double tokens_per_s() const;
  Json json() const;
};
// Runs one request; on_text sees pieces as they come. Ctrl-C ends it with Finish::cancelled. Error{failed} when the engine fails.
Answered answer(Engine& engine, Request request, const std::function<void(const std::string&)>& on_text);

}  // namespace fettle
