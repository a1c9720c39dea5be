// The matrix product, where all time goes: y = x W^T + b (+ adapter). Weights of any format are repacked once into the panels that the
// kernels read; a low-rank adapter on a 4-bit base is therefore no extra path.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "op/arithmetic.h"
#include "op/batch.h"

namespace fettle {

// Low-rank addition y += scale * (x A^T) B^T (Hu et al. 2021), trained in f32.
struct Adapter {
  int rank = 0;
  float scale = 1;            // alpha / rank
  std::vector<float> a, b;    // (rank, in), (out, rank)
  std::vector<float> da, db;  // gradients, same shapes; empty when not trained
  // (out): y = row_scale * (x W^T + scale * (x A^T) B^T) + bias (DoRA, Liu et al. 2024). Empty: 1. For inference; it has no way back.
  std::vector<float> row_scale;
};

// A weight that is trained itself, in f32. The linear's weight then is a view of `value`; whoever changes it drops the linear's panels.
struct Trained {
  std::vector<float> value, grad;  // (out, in); grad empty when not trained
};

// The scales of a quantized weight, trained while its codes stay (the second stage of EfficientQAT, Chen et al. 2024): each block's 16-bit
// scale, and its min where it has one, become (1 + value) times what they were. The linear's weight then is a view of `blocks`; whoever
// changes values calls apply() and drops the linear's panels.
struct TrainedScales {
  explicit TrainedScales(const Tensor& weight);  // whose format has scales; all values and gradients 0
  Tensor before;                                 // the weight as it was
  std::vector<std::byte> blocks;                 // the weight as it is
  std::vector<float> value, grad;                // (blocks, 1 or 2); grad empty when not trained
  bool mins() const;                             // whether the format has them
  void apply();
};

struct Panels;  // op/panels.h
class PanelSlab;

// A linear carries its own story: name, weight, bias, adapter. Everything that happens to a model happens at a named linear.
struct Linear {
  Linear() = default;
  Linear(std::string name, Tensor weight, const float* bias = nullptr);
  ~Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;

  std::string name;             // GGUF's: "blk.0.attn_q.weight"
  Tensor weight;                // (out, in), any format
  const float* bias = nullptr;  // (out)
  int in = 0, out = 0;
  bool exact = false;  // multiplied in f32 whatever the precision: routers, whose small differences decide between experts
  float soft_cap = 0;  // > 0: outputs y become cap * tanh(y / cap) (Gemma 2's head)
  std::unique_ptr<Adapter> adapter;
  std::unique_ptr<Trained> trained;  // nullptr, and no scales either: the weight is the file's
  std::unique_ptr<TrainedScales> scales;

  // Panels made on first use and kept: serving (integer or bf16), and for training forward and transposed ones.
  enum Use { serving, forward_bf16, backward_bf16, forward_f32, backward_f32, uses };
  const Panels& panels(Use use, Pool& pool) const;
  void drop_panels(Use use);
  int64_t panel_bytes() const;                 // of all that are made
  int64_t missing_panel_bytes(Use use) const;  // what making this one will take; 0: it is made

 private:
  Use made_for(Use use) const;
  friend void make_panels(std::span<const Linear* const>, Use, Pool&, const std::function<void(const Linear&)>&);
  const Panels& panels(Use use, Pool& pool, PanelSlab* slab) const;
  mutable std::shared_ptr<Panels> panels_[uses];
};

// Makes the panels of many linears in memory that they share, and says of each when it is made.
void make_panels(std::span<const Linear* const> linears, Linear::Use use, Pool& pool, const std::function<void(const Linear&)>& made);
int64_t missing_panel_bytes(std::span<const Linear* const> linears, Linear::Use use);

// What serving multiplies integer codes in: rows of answers (Batch::generated), or of prompts, which have bf16 where that is faster.
Arithmetic codes_arithmetic(bool generated);

// The panels that a pass of this precision multiplies by.
Linear::Use forward_use(Precision precision);

// y_i = x W_i^T + b_i, softly capped where the linear says so, for linears that share one input: x is quantized (or converted) once.
void linear(Run& run, Var* x, std::span<const Linear* const> linears, std::span<Var*> out);
Var* linear(Run& run, Var* x, const Linear& one);

// The next `rows` rows, and the linears that they go through.
struct RowGroup {
  int rows = 0;
  std::span<const Linear* const> linears;  // (out.size()) of the same shapes in every group
};
// The same for rows that stand in groups, each with linears of its own; all that is done for them is one list of tasks. out[i]: (rows of
// all groups, out of the i-th linears). from: row r is x's row from[r], where nothing but products reads them (no tape, tap or adapter, no
// f32); nullptr: x's row r. Groups may be empty; there is at least one.
void linear(Run& run, Var* x, const int* from, std::span<const RowGroup> groups, std::span<Var*> out);

// out[i] = weight row of ids[i], as f32.
Var* embed(Run& run, const Linear& table, std::span<const int> ids);

}  // namespace fettle
