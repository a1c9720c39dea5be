// Text whose tokens are predicted one by one: what perplexity and KL share. A window is a stretch of ids of which some are scored: the
// second half of each chunk of plain text (chunks follow each other from the text's start, without begin tokens, as TARGETS.md's peers
// do it; a last chunk that is not whole is left out), or the assistant's tokens of an example. Private to the room.
#pragma once
#include <memory>

#include "eval/eval.h"

namespace fettle {

struct Window {
  int64_t id = 0;
  std::vector<int> ids;
  std::vector<int> rows;  // position i is scored: the prediction of ids[i + 1]
};
// Error{refused} naming what is too short, too long or empty.
std::vector<Window> windows_of(const char* task, const EvalInput& input);
EvalWork plan_windows(const char* task, const EvalInput& input);

// One model's view of windows. Memory: hidden states of a batch of windows, and logits of a few dozen rows at a time.
class Reader {
 public:
  // kv: what the cache keeps keys and values in.
  Reader(Model& model, Pool& pool, Precision precision, const Format* kv)
      : model_(model), pool_(pool), precision_(precision), element_(kv) {}
  // Hidden states of the scored rows of all these windows.
  void read(std::span<const Window> windows);
  // Logits (count, vocabulary) of scored rows [first, first + count), valid until the next call.
  const float* logits(int first, int count);
  int vocabulary() const { return model_.config.vocabulary; }

 private:
  Model& model_;
  Pool& pool_;
  Precision precision_;
  const Format* element_;
  Arena arena_;
  std::unique_ptr<KvCache> kv_;
  std::vector<float> hidden_;  // (scored rows, d_model)
};

// Calls score(windows, rows) for batches of windows; rows: how many of their positions are scored. Reports progress, heeds Ctrl-C.
constexpr int kLogitRows = 32;  // rows of logits that a task holds at a time
void for_batches(const std::vector<Window>& windows, const EvalInput& input,
                 const std::function<void(std::span<const Window>, int rows)>& score);

// What came out of one scored position.
struct ScoredRows {
  double loss = 0, reference_loss = 0, kl = 0;
  bool same = false;
};
// Sums per window, and from them the mean over tokens with an interval that takes windows as the independent units.
struct WindowSum {
  double sum = 0;
  int64_t count = 0;
};
Interval ratio_interval(const std::vector<WindowSum>& windows);

}  // namespace fettle
