// Private to cli: what a forward pass costs at least on this machine. `bench` sets results against it, plans divide it by what is usual.
#pragma once
#include "model/model.h"
#include "op/probe.h"

namespace fettle {

struct PassCost {
  double block_products = 0, head_products = 0;  // multiply-adds of one row
  double weight_bytes = 0;                       // of blocks and head, that one row needs
  double kv_bytes = 0;                           // of one token's keys and values
  double attention = 0;                          // multiply-adds of one row for each token that it sees
  bool integers = false;                         // codes of integers (codes_arithmetic), else bf16

  // Seconds that `rows` rows need at least when each sees `context` tokens and `wanted` of them want logits. decoding: rows are of answers,
  // and the cached keys and values come from memory, each row its own.
  double least_seconds(const MachineProbe& machine, double rows, double wanted, double context, bool decoding) const;
  // The same where all is computed in f32.
  double least_f32_seconds(const MachineProbe& machine, double rows, double wanted, double context) const;
  // What a token's keys and values take in a cache of this element, and looking at them.
  void add_attention(const KvCache::Shape& shape, int heads, const Format* kv);
};
PassCost pass_cost(const Model& model, const Format* kv);

// The share of its limit that work reaches, about: bench's shares lie around it.
constexpr double kUsualShare = 0.45;

}  // namespace fettle
