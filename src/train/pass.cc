#include "train/pass.h"

#include <algorithm>

namespace fettle {

double Pass::loss(Run& run, const TrainBatch& b, double grad_scale) {
  Var* states = gather_rows(run, model_.network->hidden(run, b.batch), b.batch.wanted);
  if (!teacher_) return cross_entropy(run, states, model_.head, b.targets, grad_scale);
  Run teaching{arena_, pool_, nullptr, nullptr, nullptr, precision_};
  const Var* taught = gather_rows(teaching, teacher_->network->hidden(teaching, b.batch), b.batch.wanted);
  return distillation(run, states, model_.head, *taught, teacher_->head, grad_scale);
}

double Pass::train(const Step& step, int parts, const std::function<bool()>& stop) {
  if (step.trained == 0) return 0;
  const size_t n = step.pieces.size(), cut = std::min(size_t(parts), n);
  double sum = 0;
  for (size_t i = 0; i < cut && !(i && stop()); i++) {
    const size_t first = n * i / cut, last = n * (i + 1) / cut;
    const TrainBatch b = make_batch(std::span(step.pieces).subspan(first, last - first));
    if (b.targets.empty()) continue;
    arena_.reset();
    Run run{arena_, pool_, nullptr, &tape_, nullptr, precision_};
    sum += loss(run, b, 1 / double(step.trained));
    tape_.backward();
  }
  return sum / double(step.trained);
}

double Pass::evaluate(std::span<const TrainPiece> pieces) {
  const TrainBatch b = make_batch(pieces);
  if (b.targets.empty()) return 0;
  arena_.reset();
  Run run{arena_, pool_, nullptr, nullptr, nullptr, precision_};
  return loss(run, b, 0);
}

double evaluate_loss(Model& model, const std::vector<TokenRow>& rows, Precision precision, Pool& pool, Model* teacher) {
  constexpr size_t kTokens = 2048;  // of a pass
  TrainOptions whole;
  whole.batch = 1;
  whole.shuffle = "none";
  whole.max_tokens = model.config.context;
  Plan plan(rows, whole, model.config.vocabulary, model.config.context, "held-out data");
  Pass pass(model, pool, precision, false, teacher);
  double sum = 0;
  int64_t trained = 0;
  std::vector<TrainPiece> pieces;
  size_t tokens = 0;
  for (int64_t i = 0; i < plan.steps(); i++) {
    const Step step = plan.step(i);
    if (!pieces.empty() && tokens + size_t(step.tokens) > kTokens) {
      sum += pass.evaluate(pieces);
      pieces.clear();
      tokens = 0;
    }
    pieces.push_back(step.pieces[0]);
    tokens += size_t(step.tokens);
    trained += step.trained;
  }
  sum += pass.evaluate(pieces);
  return sum / double(trained);
}

double linear_weights(Model& model) {
  double n = 0;
  for (const Linear* l : model.linears()) n += model.share_of_rows(*l) * l->in * l->out;
  return n;
}

double activation_bytes_per_token(Model& model, int rank, bool checkpoint_blocks) {
  const Config& c = model.config;
  const double d = c.d_model, q = double(c.heads) * c.head_dim, kv = double(c.kv_heads) * c.head_dim, f = c.d_ff;
  const double block = 6 * d + 2 * q + 2 * kv + 3 * f + c.heads + 7.0 * rank;  // what the way back reads
  const double once = block + 6 * d;                                           // gradients of one block, stream, final norm
  return 4 * (checkpoint_blocks ? c.layers * d + block + once : c.layers * block + once);
}

double training_panel_bytes(Model& model, const TrainOptions& o) {
  const auto weights = [](Model& m) { return double(m.head.in) * m.head.out + linear_weights(m); };
  return (2 * weights(model) + (o.teacher ? weights(*o.teacher) : 0)) * (o.precision == Precision::exact ? 4 : 2);
}

uint64_t memory_budget(const TrainOptions& o) { return o.memory_bytes ? o.memory_bytes : machine_memory() / 2; }

bool needs_checkpoint_blocks(Model& model, const TrainOptions& o, int64_t tokens_of_part) {
  const double kept = double(tokens_of_part) * activation_bytes_per_token(model, o.rank, false);
  return training_panel_bytes(model, o) + kept > double(memory_budget(o));
}

}  // namespace fettle
