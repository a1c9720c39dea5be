// What one forward pass works on: a ragged batch of tokens, and what the pass is for (Run).
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/base.h"
#include "tensor/tensor.h"

namespace fettle {

// Tokens of several sequences, one after another. Each segment is a run of consecutive positions of one sequence: a prompt, a piece of
// one, a single decoded token, or a training row.
struct Batch {
  struct Segment {
    int sequence = 0;  // slot in the KV cache
    int start = 0;     // position of its first token; earlier positions are in the cache already
    int first = 0;     // its first row in this batch
    int count = 0;
    int prefix = -1;  // without a cache: the earlier segment of this batch that holds positions [0, start); -1: start is 0
  };
  std::vector<int> tokens;     // (rows)
  std::vector<int> positions;  // (rows)
  std::vector<Segment> segments;
  std::vector<int> wanted;  // rows whose logits are read, ascending
  // So many rows, the first ones, are tokens of answers, drawn one at a time; the others are of prompts. Where prompts have a faster
  // product, each row takes the one of its kind, so that an answer does not depend on what else is in its batches.
  int generated = 0;
  int rows() const { return int(tokens.size()); }
  // Appends a segment; want_all: logits of every token, else of the last one alone when want_last.
  void add(int sequence, int start, std::span<const int> ids, bool want_last = true, bool want_all = false);
  // Without a cache: a segment whose sequence begins with all of segment `prefix`, which therefore is computed once for all that share it.
  void add_behind(int prefix, std::span<const int> ids);
  void clear();
};

// An activation matrix, row-major f32, and its gradient when a tape records. The memory belongs to the run's arenas.
struct Var {
  float* data = nullptr;  // (rows, cols)
  float* grad = nullptr;  // (rows, cols); nullptr until something flows into it
  int rows = 0, cols = 0;
  bool needs_grad = false;
  int64_t count() const { return int64_t(rows) * cols; }
};

// Records how to go back. Ops push closures during the forward pass; backward() runs them in reverse.
class Tape {
 public:
  void push(std::function<void()> back) { entries_.push_back(std::move(back)); }
  // The gradient buffer of v, zeroed when first asked for. It lives until the enclosing block has been run backwards.
  float* grad(Var& v);
  // Runs all entries in reverse and clears the tape.
  void backward();
  size_t size() const { return entries_.size(); }
  Arena& gradients() { return gradients_; }
  // Rebuild each block in the backward pass instead of keeping its activations (Chen et al. 2016).
  bool checkpoint_blocks = false;

 private:
  friend struct Run;
  std::vector<std::function<void()>> entries_;
  Arena gradients_;
};

struct Linear;
class KvCache;
class OpTimes;

// Sees the input of every named linear: calibration, importance, debugging.
class Tap {
 public:
  virtual ~Tap() = default;
  // x: (rows, in)
  virtual void input(const Linear& linear, const float* x, int rows) = 0;
};

// How linears compute. exact: f32 on decoded weights. mixed: bf16 products, f32 sums (training). serving: the format's own panels, int8
// activations where the format has integer codes, bf16 where it is a float format.
enum class Precision { exact, mixed, serving };

// What a pass is for. No tape: inference. A tape: training. A tap: calibration. Times: measuring operations.
struct Run {
  Arena& arena;
  Pool& pool;
  KvCache* kv = nullptr;
  Tape* tape = nullptr;
  Tap* tap = nullptr;
  Precision precision = Precision::serving;
  int generated = 0;         // of the rows in work (Batch::generated)
  OpTimes* times = nullptr;  // what forward operations report to (op/op_times.h)
  // Tokens that sequences may come to in later passes, 0: no more than in this one. Some models turn positions otherwise in long sequences
  // (model/rotation.h), from the first token on.
  int longest = 0;

  // An activation buffer; contents undefined.
  Var* make(int rows, int cols, bool needs_grad = true);
  // Runs one transformer block: body may only change `stream` in place (residual adds). Without a tape it frees the block's activations
  // at once; with one it marks the boundary for gradient memory, and rebuilds instead of keeping when the tape checkpoints blocks.
  void block(Var* stream, const std::function<void(Var*)>& body);
};

}  // namespace fettle
