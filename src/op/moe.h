// Mixtures of experts (Shazeer et al. 2017): a router sends each row to a few of many feed-forward networks. Rows are gathered by expert,
// so that an expert multiplies all of its rows at once.
#pragma once
#include <span>

#include "op/linear.h"

namespace fettle {

// How logits (rows, experts) become `used` experts and their weights for each row: those of the largest logits, of equal ones the first.
struct Routing {
  enum Gate {
    softmax,       // probabilities among all experts; renormalized they are the softmax of the chosen logits (Mixtral)
    sigmoid,       // of each logit by itself
    sparse_mixer,  // SparseMixer's inference (Liu et al. 2023, PhiMoE): each choice's probability among those of the experts left that are
                   // within 2 * jitter of the largest logit; never renormalized
  };
  Gate gate = softmax;
  int experts = 0, used = 0;
  bool renormalized = false;  // weights of a row sum to 1 before they are scaled
  float scale = 1;
  float jitter = 0.01f;
};

// For tests and for those who look at routing: experts (used) in the order of their logits, and weights (used), of one row.
void route(const Routing& routing, const float* logits, int* experts, float* weights);

// A feed-forward network: down(silu(gate(x)) * up(x)).
struct Expert {
  Linear gate, up, down;
};

// y = sum over a row's experts of weight * expert(x). logits: (rows, experts), the router's. Without a tape, a tap and adapters x is
// converted for products once, however many experts read a row.
Var* mixture(Run& run, Var* x, Var* logits, const Routing& routing, std::span<const Expert> experts);

// y *= sigmoid(gate), in place; gate: (rows, 1). What a shared expert counts (Qwen2-MoE).
void gate_rows(Run& run, Var* y, Var* gate);

}  // namespace fettle
