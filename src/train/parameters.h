// What a run trains, as the optimizer sees it: named stretches of floats and their gradients. Private to the room.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "train/train.h"

namespace fettle {

struct Parameter {
  std::string name;  // "blk.0.attn_q.weight.a"
  std::span<float> value, grad;
};

// The linears that --targets names, by parts of GGUF's names or as PEFT calls them ("q_proj"), in the model's order; no targets: all.
// Throws Error{usage} for a target that names none.
std::vector<Linear*> chosen(Model& model, const std::vector<std::string>& targets);

// Makes the model trainable as the options say (adapters attached, gradient buffers allocated) and returns its parameters in file order.
// The spans live until the model's adapters or trained weights are replaced. Throws Error{usage}: impossible options; Error{refused}:
// init_adapter does not fit.
std::vector<Parameter> make_trainable(Model& model, const TrainOptions& options);

// After values have changed: panels made of trained weights are made anew when they are next used. Adapters need no call.
void refresh(Model& model);

// Drops gradient buffers and training panels; what was learned stays.
void end_training(Model& model);

int64_t count(const std::vector<Parameter>& parameters);
std::vector<float> copy_values(const std::vector<Parameter>& parameters);
void set_values(const std::vector<Parameter>& parameters, std::span<const float> values);

}  // namespace fettle
