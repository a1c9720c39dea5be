// Private to cli: the options of training, shared by tune and fit.
#pragma once
#include "cli/cli.h"

namespace fettle {

// Binds --rank, --lr and so on to `train`; `full` adds those that only a single run needs (layout, order, precision, schedule).
void add_training(Options& options, TrainOptions& train, bool full);
// --held-out; its help says how much of DATA is held out without it.
void add_held_out(Options& options, std::string& source);
// "4x512" -> rows, tokens. Error{usage}.
void parse_pack(const std::string& text, TrainOptions& train);
// What must hold between options. Error{usage}.
void check_training(const TrainOptions& train);

}  // namespace fettle
