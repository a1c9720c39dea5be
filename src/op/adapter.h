// Low-rank additions y += scale * (x A^T) B^T (Hu et al. 2021). Private to the room. Products are f32, or bf16 with f32 sums where a caller
// hands over its operand as pairs (bf16_rows).
#pragma once
#include "op/linear.h"
#include "op/panels.h"

namespace fettle {

// y (rows, out) += the adapter's part; t (rows, rank) keeps x A^T for the way back. pairs: x's, or none.
void adapter_forward(Run& run, const Var* x, const PairRows& pairs, const Adapter& adapter, float* t, Var* y);
// Given y's gradient: adds to A's and B's, and to x's where into_x. pairs: of y's gradient, or nullptr.
void adapter_back(Run& run, Var* x, bool into_x, const float* t, Adapter& adapter, const Var* y, const PairRows& pairs);

}  // namespace fettle
