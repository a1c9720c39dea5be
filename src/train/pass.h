// One pass over a step: forward, loss, and the way back. Private to the room.
#pragma once
#include "train/plan.h"

namespace fettle {

// Activations and gradient memory are kept from step to step.
class Pass {
 public:
  // With a teacher the loss is how far the model's distributions are from the teacher's, at the labelled tokens.
  Pass(Model& model, Pool& pool, Precision precision, bool checkpoint_blocks, Model* teacher = nullptr)
      : model_(model), teacher_(teacher), pool_(pool), precision_(precision) {
    tape_.checkpoint_blocks = checkpoint_blocks;
  }
  // Adds d(mean loss of the step) to the parameters' gradients; returns the mean loss. The step's pieces are run in `parts` parts, whose
  // gradients add up to the same mean. stop() is asked between parts: true ends the pass early (the gradient is then incomplete).
  double train(const Step& step, int parts, const std::function<bool()>& stop);
  // Sum of losses over the pieces' trained tokens.
  double evaluate(std::span<const TrainPiece> pieces);

 private:
  double loss(Run& run, const TrainBatch& b, double grad_scale);

  Model& model_;
  Model* teacher_;
  Pool& pool_;
  Precision precision_;
  Arena arena_;
  Tape tape_;
};

double linear_weights(Model& model);  // of all linears but the head

// Bytes of activations that one token of a pass keeps, and bytes of panels that training needs, the teacher's too.
double activation_bytes_per_token(Model& model, int rank, bool checkpoint_blocks);
double training_panel_bytes(Model& model, const TrainOptions& options);

// Whether blocks are rebuilt on the way back: when keeping a part of the largest step would not fit the budget.
bool needs_checkpoint_blocks(Model& model, const TrainOptions& options, int64_t tokens_of_part);
uint64_t memory_budget(const TrainOptions& options);

}  // namespace fettle
