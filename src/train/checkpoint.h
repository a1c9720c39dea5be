// A run's state on disk: a folder whose state.json names every file with size and digest. Private to the room.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "train/parameters.h"

namespace fettle {

// Everything that a step depends on besides options, model and rows. The order of rows is a pure function of seed and step (train/plan.h),
// so `step` is the position in the data and the state of the random numbers.
struct TrainState {
  int64_t step = 0, tokens = 0;  // done so far
  double seconds = 0;            // of training, over all parts of an interrupted run
  double first_loss = 0, last_loss = 0;
  std::vector<double> early, recent;  // the first and the last few losses: what divergence is judged by
  bool has_eval = false;
  double best_eval_loss = 0;
  int64_t best_step = 0;
  int without_improvement = 0;  // evaluations since the best
  std::string stopped_because;  // empty: goes on
};

struct Checkpoint {
  TrainState state;
  std::map<std::string, std::string> identity;  // options and data that a continuation must share, by name
  std::vector<std::pair<std::string, int64_t>> parameters;
  std::vector<float> values, first, second, best;  // best: empty when the last values are the best, or nothing was evaluated
};

// Writes folder/checkpoint: first whole under another name, then the old one becomes checkpoint.previous, then the new one takes its place.
// Whenever the process dies, one of the two is whole. Error{failed} when the disk does not take it.
void save_checkpoint(const fs::path& folder, const Checkpoint& checkpoint);

// The newest whole checkpoint in folder; nullopt when there never was one. Error{refused} when there are only damaged ones.
std::optional<Checkpoint> load_checkpoint(const fs::path& folder);

// Removes what a process that was killed while saving left behind; with `all`, the checkpoints too (a run that starts anew).
void clean_checkpoints(const fs::path& folder, bool all);

}  // namespace fettle
