// Which rows a step trains on, and how they become a batch. Private to the room.
#pragma once
#include <string>
#include <vector>

#include "train/train.h"

namespace fettle {

// A stretch of tokens seen as one causal sequence: a row, or a window over joined rows.
struct TrainPiece {
  std::span<const int> ids, labels;
  int64_t first_row = 0, last_row = 0;  // of the data set
};

struct Step {
  std::vector<TrainPiece> pieces;
  int64_t tokens = 0;        // of all pieces
  int64_t trained = 0;       // labelled tokens that a predecessor in the same piece predicts: what the loss is the mean of
  std::string rows() const;  // "3, 17, 20-24" for errors
};

// The order of a whole run. A step is a pure function of (rows, options, step), so a checkpoint needs the step's number and nothing else.
// Packing: the rows of an epoch are joined, cut into windows of pack_tokens, pack_rows windows a step; as in the usual training scripts,
// what is left behind the last whole step is not trained on in that epoch (unless it is all there is).
class Plan {
 public:
  // Throws Error{refused}: ids or labels outside the vocabulary, no row with a trained token; Error{usage}: impossible options.
  // Rows are cut at max_tokens and the model's context. place: what the rows are, for errors.
  Plan(const std::vector<TokenRow>& rows, const TrainOptions& options, int vocabulary, int context,
       const std::string& place = "training data");
  int64_t steps_per_epoch() const { return steps_per_epoch_; }
  int64_t steps() const { return steps_; }
  int64_t truncated_rows() const { return truncated_; }
  int64_t skipped_rows() const { return skipped_; }  // without a trained token
  int64_t tokens() const;                            // of the whole run
  uint64_t digest() const { return digest_; }        // of all ids and labels
  Step step(int64_t index);

 private:
  std::vector<size_t> order(int64_t epoch) const;
  void join(const std::vector<size_t>& order);
  bool packed() const { return options_.pack_tokens > 0; }

  const TrainOptions& options_;
  std::vector<TrainPiece> rows_;
  int64_t steps_per_epoch_ = 0, steps_ = 0, truncated_ = 0, skipped_ = 0, row_tokens_ = 0, epoch_ = -1;
  uint64_t digest_ = 0;
  std::vector<size_t> order_;      // of epoch_
  std::vector<int> ids_, labels_;  // packed: joined rows of epoch_
  std::vector<int64_t> starts_;    // packed: where each row of order_ begins
};

// Pieces as one ragged batch. A piece ends before its last labelled token: what comes behind predicts nothing. What all pieces begin with
// (a system prompt, a template's head) is one segment that the others see: causal states do not depend on what follows, and gradients add
// up, so loss and gradient are those of whole rows.
struct TrainBatch {
  Batch batch;               // wanted: the rows that predict
  std::vector<int> targets;  // one for each wanted row
};
TrainBatch make_batch(std::span<const TrainPiece> pieces);

}  // namespace fettle
