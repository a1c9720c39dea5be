// Room train: the loop, the optimizer, schedules, low-rank adapters, checkpoints and resume. Works on ready token rows; knows no files of
// examples.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/model.h"

namespace fettle {

struct TrainOptions {
  // lora | full (weights of the chosen linears, in f32) | scales (the scales of quantized ones, whose codes stay). Embedding, head, norms
  // and biases stay as they are.
  std::string method = "lora";
  int rank = 16;
  float alpha = 32;
  std::vector<std::string> targets;  // parts of linear names ("attn_q"); empty: all block linears
  double lr = 0;                     // at its highest; 0: usual_learning_rate()
  double weight_decay = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double clip = 1.0;                // global gradient norm, 0: off
  std::string schedule = "cosine";  // cosine | linear | constant
  double warmup = 0.03;             // < 1: share of all steps, else steps
  double epochs = 1;
  int64_t max_steps = 0;               // 0: no limit
  int batch = 8;                       // rows per optimizer step
  int accumulate = 1;                  // a step's rows are run in this many parts (memory)
  int pack_rows = 0, pack_tokens = 0;  // pack_rows x pack_tokens > 0: rows are joined and cut into windows, pack_rows windows a step
  int max_tokens = 2048;               // longer rows are cut (and counted)
  std::string shuffle = "epoch";       // epoch | none
  Precision precision = Precision::mixed;
  uint64_t seed = 0;
  int threads = 0;
  uint64_t memory_bytes = 0;  // 0: half of the machine's; decides panel caching and checkpointing of blocks
  int eval_every = 0;         // steps; 0: once per epoch and at the end
  int patience = 0;           // evaluations without improvement before stopping; 0: never
  int checkpoint_every = 50;  // steps
  bool resume = false;
  std::optional<LoraFile> init_adapter;
  // Its next-token distributions at the labelled tokens are learned, in place of the labels: the loss, the held-out one too, is
  // KL(teacher || model) in nats. Of the same vocabulary.
  Model* teacher = nullptr;
};

// What suits a model of this width when nothing else is known: for low-rank adapters 5e-4 * (2000 / d_model)^0.775, a tenth of it for all
// weights, 1.5e-4 for scales, whose values are relative (1e-3 first made SmolLM2 worse) (Schulman et al. 2025, "LoRA without regret":
// fitted over Llama models at alpha 32, best rates hardly depend on the rank).
double usual_learning_rate(const Config& config, const std::string& method);

struct StepLog {
  int64_t step = 0, tokens = 0;  // tokens: real tokens seen so far
  double epoch = 0, loss = 0, lr = 0, grad_norm = 0, seconds = 0;
  std::optional<double> eval_loss;
};

struct TrainResult {
  int64_t steps = 0, tokens = 0, trained_parameters = 0;
  double epochs = 0, tokens_per_s = 0, first_loss = 0, last_loss = 0, best_eval_loss = 0;
  bool has_eval = false;
  std::string stopped_because;  // "epochs", "max-steps", "early-stop", "interrupted"
  int64_t truncated_rows = 0;
};

// Trains in place: on return the model's linears carry the adapter (method full: their weights are views of the trained f32 values), the
// best by held-out loss, else the last. `folder` receives metrics.jsonl and checkpoints
// (checkpoint/, checkpoint.previous/; written atomically, with digests). Throws Error{failed} when the loss is NaN or diverges (naming
// the rows of the step; the last good checkpoint is kept), Error{refused} when no row has a trained token, Error{interrupted} on Ctrl-C
// after saving.
TrainResult train(Model& model, const std::vector<TokenRow>& rows, const std::vector<TokenRow>& held_out, const TrainOptions& options,
                  const fs::path& folder, const std::function<void(const StepLog&)>& on_step);

// Mean loss over the trained tokens of rows; with a teacher as TrainOptions::teacher says.
double evaluate_loss(Model& model, const std::vector<TokenRow>& rows, Precision precision, Pool& pool, Model* teacher = nullptr);

// What a run will need, before it starts.
struct TrainEstimate {
  int64_t steps = 0, tokens = 0, trained_parameters = 0;
  double seconds = 0, memory_bytes = 0, disk_bytes = 0, energy_wh = 0;
};
TrainEstimate estimate_training(Model& model, const std::vector<TokenRow>& rows, const TrainOptions& options);

}  // namespace fettle
