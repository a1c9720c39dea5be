// Room op: one file per operation; each with its plain reference, its fast forward and its backward. Nothing here throws.
#pragma once
#include <span>

#include "op/batch.h"
#include "op/kv_cache.h"
#include "op/linear.h"
#include "op/moe.h"
#include "op/op_times.h"

namespace fettle {

// y = x / rms(x) * weight.  weight: (width), and each `width` columns of a row are normed by themselves (heads); 0: whole rows.
Var* rmsnorm(Run& run, Var* x, const float* weight, float epsilon, int width = 0);
// y = (x - mean(x)) / deviation(x) * weight + bias.  weight, bias: (cols)
Var* layernorm(Run& run, Var* x, const float* weight, const float* bias, float epsilon);

// Rotary position embedding (Su et al. 2021) in place on (rows, heads * head_dim), first `dims` of each head. interleaved: pairs (2i, 2i+1)
// as GGUF's llama files order them, else (i, i + dims/2). factors: per-pair divisors of the frequency, nullptr: none. What is rotated
// becomes `magnitude` times as long (a model's way to look at more positions than it was made for is these two numbers).
struct Rope {
  int heads = 0, head_dim = 0, dims = 0;
  float base = 10000;
  bool interleaved = true;
  const float* factors = nullptr;  // (dims / 2)
  float magnitude = 1;
};
void rope(Run& run, Var* x, const Rope& rope, std::span<const int> positions);

// Attention of q against the cache after writing k and v of this batch into it. q: (rows, heads * head_dim); k, v: (rows, kv_heads *
// head_dim). window > 0: only the last `window` positions are seen. soft_cap > 0: scores s become cap * tanh(s / cap) (Gemma 2).
// Not causal: every token sees its whole segment, of which all is in the batch; there is no cache.
struct Attention {
  int layer = 0, heads = 0, kv_heads = 0, head_dim = 0, window = 0;
  float scale = 0;  // of q k, usually 1 / sqrt(head_dim)
  float soft_cap = 0;
  bool causal = true;
};
Var* attention(Run& run, Var* q, Var* k, Var* v, const Attention& shape, const Batch& batch);

// silu(gate) * up, gelu(gate) * up (Shazeer 2020; GELU by its tanh form).
Var* swiglu(Run& run, Var* gate, Var* up);
Var* geglu(Run& run, Var* gate, Var* up);
// x Phi(x): GELU by its exact form (Hendrycks & Gimpel 2016).
Var* gelu(Run& run, Var* x);

// stream += factor * x, in place.
void add(Run& run, Var* stream, Var* x, float factor = 1);
// x *= factor, in place. Whoever made x must not need it to go back.
void scale(Run& run, Var* x, float factor);

// Copies columns [first, first + count).
Var* columns(Run& run, Var* x, int first, int count);

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
