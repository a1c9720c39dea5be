// Room op: one file per operation; each with its plain reference, its fast forward and its backward. Nothing here throws.
#pragma once
#include <span>

#include "op/batch.h"
#include "op/kv_cache.h"
#include "op/linear.h"
#include "op/moe.h"
#include "op/op_times.h"

namespace fettle {

// y = x / rms(x) * weight.  weight: (cols)
Var* rmsnorm(Run& run, Var* x, const float* weight, float epsilon);

// Rotary position embedding (Su et al. 2021) in place on (rows, heads * head_dim), first `dims` of each head. interleaved: pairs (2i, 2i+1)
// as GGUF's llama files order them, else (i, i + dims/2). factors: per-pair divisors of the frequency (Llama 3 scaling), nullptr: none.
struct Rope {
  int heads = 0, head_dim = 0, dims = 0;
  float base = 10000;
  bool interleaved = true;
  const float* factors = nullptr;  // (dims / 2)
};
void rope(Run& run, Var* x, const Rope& rope, std::span<const int> positions);

// Causal attention of q against the cache after writing k and v of this batch into it. q: (rows, heads * head_dim); k, v: (rows, kv_heads *
// head_dim). window > 0: only the last `window` positions are seen.
struct Attention {
  int layer = 0, heads = 0, kv_heads = 0, head_dim = 0, window = 0;
  float scale = 0;  // 1 / sqrt(head_dim)
};
Var* attention(Run& run, Var* q, Var* k, Var* v, const Attention& shape, const Batch& batch);

// silu(gate) * up
Var* swiglu(Run& run, Var* gate, Var* up);

// stream += x, in place.
void add(Run& run, Var* stream, Var* x);

// Copies the named rows.
Var* gather_rows(Run& run, Var* x, std::span<const int> rows);

// Cross-entropy of `head` applied to hidden rows, without ever holding all logits: chunks of rows, gradient written at once.
// targets: (rows), each in [0, vocabulary). With a tape, hidden's gradient is that of grad_scale * loss. Returns the sum of losses (not
// scaled); row_losses (rows), when given, gets each.
double cross_entropy(Run& run, Var* hidden, const Linear& head, std::span<const int> targets, double grad_scale,
                     float* row_losses = nullptr);

// Sum over rows of KL(teacher || student), of the next-token distributions that two heads make of their hidden rows, in nats (Hinton et al.
// 2015, at temperature 1). teacher: (rows, its own width); the heads share a vocabulary. Gradient as in cross_entropy; the teacher gets
// none.
double distillation(Run& run, Var* hidden, const Linear& head, const Var& teacher, const Linear& teacher_head, double grad_scale);

// log-softmax helpers on one row of logits.
double log_sum_exp(const float* logits, int n) noexcept;
int argmax(const float* logits, int n) noexcept;

}  // namespace fettle
