// Room pipeline: stages that read a model and write a model plus a growing recipe; the registry; gates; `fit`, the whole chain. What a
// stage does never depends on who called it: command line, fit or a server's job.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compress/compress.h"
#include "eval/eval.h"
#include "train/train.h"

namespace fettle {

using Json = nlohmann::ordered_json;

// ---- models on this machine (SQLite in $FETTLE_HOME/fettle.db; files under models/NAME/VERSION/)
struct ModelRecord {
  std::string name;
  int version = 1;
  fs::path path;      // the GGUF, or a Hugging Face folder
  std::string state;  // "ready" | "failed-gate" | "base" | "damaged" (its bytes are no longer what the digest says)
  std::string digest, created;
  uint64_t bytes = 0;
  Json recipe;
  std::string label() const { return name + ":" + std::to_string(version); }
};
class Registry {
 public:
  // Reading writes nothing: a machine without a registry has no models, on a full or read-only disk too. What adds something makes it.
  // Error{refused} when the database is damaged, or is gone though models are there.
  Registry();
  ~Registry();
  // A copy of the file, or of a Hugging Face folder's files, becomes the next version (files of fettle's own home are linked instead: no
  // bytes move); the row appears only when the file is whole and on disk. Version numbers are never given twice. Error{usage} for a name
  // that is none.
  ModelRecord add(const std::string& name, const fs::path& model, const std::string& state, const Json& recipe);
  std::vector<ModelRecord> list() const;
  // A name: its newest version that is ready or a base. "name:3": that version, whatever its state. A tag: what it stands for.
  std::optional<ModelRecord> find(const std::string& name_or_label) const;
  // A tag goes alone; a bare name needs to have one version only. Error{usage} when there is nothing of that name. The file goes before
  // the row, so that a full disk is no hindrance.
  void remove(const std::string& name_or_label);
  ModelRecord removable(const std::string& name_or_label) const;  // what remove() would take, or what the tag stands for; its errors
  // `to` ("support" or "support:live") stands for the version `from` means now. A tag that exists moves.
  void tag(const std::string& from, const std::string& to);
  struct Tag {
    std::string name, label;  // "support:live" stands for "tickets:1"
  };
  std::vector<Tag> tags() const;

  struct State;  // registry_state.h

 private:
  std::unique_ptr<State> state_;
};

// What is wrong in $FETTLE_HOME, in sentences.
struct Checkup {
  std::vector<std::string> mended;    // was wrong, is right now
  std::vector<std::string> mendable;  // `fettle doctor --mend` sets it right
  std::vector<std::string> left;      // needs a person: the sentence says what to do
  std::vector<std::string> notes;     // nothing wrong, but good to know
  std::optional<size_t> models;       // rows; nullopt: the database cannot be read
  bool clean() const { return mendable.empty() && left.empty(); }
};
// A damaged or lost database (rebuilt from cards and tags.json), files without rows, rows without files, cards and tags that are not what
// the rows say, leftovers of killed processes, sizes and (`digests`) digests that do not match. Without `mend` nothing is written.
Checkup check_home(bool mend, bool digests);

// MODEL as COMMANDS.md defines it -> a local GGUF or a Hugging Face folder; pulls a catalogue model when absent (unless offline).
fs::path resolve_model(const std::string& model, bool offline);
// Whether MODEL means a file, for which the registry is not asked.
bool names_a_file(const std::string& model);
ModelRecord pull(const std::string& source_or_name, bool offline);
// What that would do.
struct PullPlan {
  std::string name;                  // in the registry
  std::vector<std::string> sources;  // tried in order; empty: it is here already
  uint64_t bytes = 0;                // 0: unknown
};
PullPlan plan_pull(const std::string& source_or_name, bool offline);

// ---- targets and gates: "size<90MB,accuracy>=base_tuned-1pt,latency<5ms/token,kl<0.02"
struct Rule {
  std::string metric;      // size | accuracy | latency | kl
  std::string comparison;  // < <= > >=
  double value = 0;        // bytes, share, seconds per token, nats
  std::string reference;   // "base", "base_tuned", or empty
  std::string text;
};
std::vector<Rule> parse_rules(const std::string& text);  // Error{usage} showing the place
// What came of one rule. `value` with its 95 % interval and `limit` are in the rule's unit; where the rule names a reference, value is the
// paired difference to it and limit the margin (-0.01 for "-1pt"). Passed means that the whole interval clears the limit: a measurement
// that cannot tell does not pass, and `verdict` says which of the two it was.
struct GateResult {
  Rule rule;
  double value = 0, low = 0, high = 0, limit = 0;
  bool passed = false;
  std::string verdict;  // "passed" | "missed" | "not proven"
  std::string explanation;
};

// ---- stages
struct StageContext {
  bool offline = false, force = false, dry_run = false, resume = false;
  int threads = 0;
  uint64_t memory_bytes = 0, seed = 0;
  std::vector<std::string> command;  // argv, for the recipe
  std::string started = utc_timestamp();
};

// What is held out of DATA where nothing else is said: a tenth gives intervals too wide for most gates.
constexpr double kHeldOutShare = 0.15;

// Examples that can be used. Error{refused} at a bad row, unless they are to be skipped (which is told), and where no row is left.
Dataset read_examples(const std::string& source, bool skip_bad);
// Both sides have rows. Error{refused} naming `source` where all rows ask one question.
Split split_examples(const Dataset& data, const std::string& source, double held_out_fraction, uint64_t seed);

// Reads, checks, splits; prints what people should know. held_out_source may be empty (then split).
struct PreparedData {
  Dataset data, held_out_data;
  std::vector<Example> train, held_out;
  DataReport report;
};
PreparedData prepare_data(const std::string& source, const std::string& held_out_source, double held_out_fraction, bool skip_bad,
                          uint64_t seed);
// What is in the examples; held_out_source: rows kept apart from them, empty: a split of their own. model empty: characters are counted.
Json data_check(const std::string& source, const std::string& held_out_source, const std::string& model, int max_tokens, bool offline);

struct TuneArguments {
  std::string model, data, held_out, ids_file;  // ids_file: ready token rows
  std::string teacher;                          // MODEL whose distributions are learned; empty: the labels
  fs::path init_adapter;                        // PEFT folder or GGUF-LoRA
  fs::path out;                                 // run folder; empty: $FETTLE_HOME/runs/NAME
  bool skip_bad = false;
  TrainOptions options;
};
Json tune_stage(const TuneArguments& arguments, const StageContext& context);

struct HealArguments {
  fs::path quantized, teacher, out, folder;  // models; folder: checkpoints and log
  std::vector<TokenRow> rows, watched;       // their labels are not looked at
  TrainOptions options;                      // epochs, max_steps, batch and what else a run takes
  double seconds = 0;                        // at most about so many, 0: no limit
};
// Trains the scales of the quantized file's blocks towards the teacher's distributions, at all tokens behind what every row begins with,
// and writes `out`, which may be the quantized file itself: healed where the watched rows say that it helped, else as it was. Returns
// healed, kl_before, kl_after, steps.
Json heal(const HealArguments& arguments);

// What fit does beside training, in tokens that pass through it; and the seconds that it will take.
struct FitWork {
  double calibrated = 0, healed = 0, held_out = 0;
};
struct FitSeconds {
  double compressing = 0, healing = 0, measuring = 0;
};
// About, as `training` estimates a run of this model.
FitSeconds seconds_beside_training(const TrainEstimate& training, const Config& config, const FitWork& work);

// What fit trains with unless told otherwise: a few hundred short rows shall be learned well in minutes.
TrainOptions fit_training();

struct FitArguments {
  std::string data, held_out, base = "smollm2-135m-instruct", target = "size<90MB,accuracy>=base_tuned-1pt", name;
  double seconds = 0;  // time budget, 0: none
  fs::path out;
  bool skip_bad = false;
  TrainOptions options = fit_training();
};
Json fit(const FitArguments& arguments, const StageContext& context);

// The growing recipe: command, arguments, seed, digests, version, isa, timings, scores.
Json new_recipe(const std::string& stage, const StageContext& context);

// One self-contained HTML page from fit's document (no scripts from elsewhere).
std::string render_report(const Json& fit_document);

}  // namespace fettle
