// Private to pipeline: what tune and fit share.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/pipeline.h"

namespace fettle {

// A run's folder, with run.json: which stages are done, from which inputs, and the digests of what they left. --resume asks it what can be
// skipped; a stage whose inputs changed, or whose files are not what they were, is done again and so is all that follows from it.
class RunFolder {
 public:
  // wanted empty: $FETTLE_HOME/runs/NAME-TIME (resuming: the newest of that name). Error{refused} when something is there already, unless
  // resuming (only a run's folder can be) or forced (only a run's folder is emptied).
  RunFolder(const fs::path& wanted, const std::string& kind, const std::string& name, const StageContext& context);
  // A folder that this run made and in which nothing was begun is taken away again: the corrected command shall not stumble over it.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  const fs::path& path() const { return path_; }
  fs::path file(const std::string& name) const { return path_ / name; }
  bool resumed() const { return resumed_; }
  // Error{refused} where the stage was done or begun with another key: for runs of one stage, which another key would overwrite.
  void require_same(const std::string& stage, const std::string& key) const;
  // Notes that the stage starts; true: an earlier run was stopped in it with the same key, so its checkpoints may be gone on from.
  bool begin(const std::string& stage, const std::string& key);
  // What the stage returned when it was done with this key; nullopt: it has to be done.
  std::optional<Json> done(const std::string& stage, const std::string& key) const;
  // outputs: files below the folder.
  void record(const std::string& stage, const std::string& key, const Json& result, const std::vector<std::string>& outputs);
  std::string digest(const std::string& stage, const std::string& output) const;  // as recorded
  // The command that goes on from here.
  std::string resume_command(const StageContext& context) const;
  // For people, where the run stops early: that command, or that there is nothing to go on from.
  std::string way_on(const StageContext& context) const;

 private:
  bool holds_nothing() const;  // made by this run, and nothing in it would spare a second run any work
  void save() const;
  fs::path path_;
  bool resumed_ = false, made_ = false;
  Json state_;
  std::unique_ptr<FileLock> lock_;
};

// The command of this run without what says how to treat an earlier run's folder.
std::string replay_command(const StageContext& context);
// The command that makes all of it again, in a folder of its own.
std::string fresh_command(const StageContext& context);
std::string digest_of(const Json& inputs);
Json options_json(const TrainOptions& options);

// Rows through the model's own chat format. `first`: index of the first row in the data set.
std::vector<TokenRow> token_rows(const ChatFormat& format, const std::vector<Example>& examples);
// Proves parity and shows one row with its mask.
void prove_and_show(const ChatFormat& format, const std::vector<Example>& train);
Json statistics_json(const TokenStatistics& s);
Json report_json(const PreparedData& data);

// Trains with progress; leaves metrics.jsonl, adapter.gguf, adapter/ (PEFT) in `folder`; returns the document of `tune`.
Json run_training(Model& model, const std::vector<TokenRow>& rows, const std::vector<TokenRow>& held_out, TrainOptions options,
                  const fs::path& folder, const std::string& label, const std::string& base_name);
Json estimate_json(const TrainEstimate& e);

// One model file on the held-out rows.
struct Scored {
  Score score;
  std::optional<Interval> perplexity;
  Interval seconds_per_token;
};
Json scored_json(const Scored& s);
Scored scored_from(const Json& j);
// Whether the answers are labels, few and each given often: "" where they are, else why not.
std::string why_free_answers(const std::vector<Example>& train, const std::vector<Example>& held_out);
Scored score_file(const fs::path& gguf, const std::vector<Example>& held_out, bool closed, const StageContext& context,
                  const std::string& label);
// Mean KL of the compressed model's next-token distributions to the tuned model's, in nats, over the held-out rows.
Score kl_between(const fs::path& compressed, const fs::path& tuned, const std::vector<Example>& held_out, const StageContext& context,
                 const std::string& label);

}  // namespace fettle
