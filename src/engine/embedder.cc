// Embeddings: texts side by side in ragged batches, without a cache; each text's states become one vector.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "engine/engine.h"

namespace fettle {
namespace {

constexpr int kBatchTokens = 2048;  // of texts that are computed together, but for one that is longer

void check_text(const std::vector<int>& ids, const Config& config) {
  if (ids.empty()) throw refused("text", "is empty, and the model has no token to begin with");
  if (int64_t(ids.size()) > config.context)
    throw refused("text", "has " + std::to_string(ids.size()) + " tokens, and the model reads " + std::to_string(config.context));
  for (int id : ids)
    if (id < 0 || id >= config.vocabulary)
      throw refused("text", "holds token " + std::to_string(id) + ", the vocabulary has " + std::to_string(config.vocabulary));
}

// states: (count, n)
std::vector<float> pooled(const float* states, int count, int n, Pooling pooling) {
  std::vector<float> vector(static_cast<size_t>(n));
  if (pooling == Pooling::mean) {
    std::vector<double> sums(static_cast<size_t>(n));
    for (int64_t r = 0; r < count; r++)
      for (int i = 0; i < n; i++) sums[size_t(i)] += double(states[r * n + i]);
    for (int i = 0; i < n; i++) vector[size_t(i)] = float(sums[size_t(i)] / count);
  } else {
    const int64_t row = pooling == Pooling::cls ? 0 : count - 1;
    std::copy_n(states + row * n, n, vector.begin());
  }
  return vector;
}

void normalize(std::vector<float>& vector) {
  double squares = 0;
  for (float v : vector) squares += double(v) * v;
  const double length = std::sqrt(squares);
  if (length > 0)
    for (float& v : vector) v = float(v / length);
}

}  // namespace

struct Embedder::State {
  State(std::shared_ptr<Model> m, const EmbedOptions& o)
      : model(std::move(m)),
        options(o),
        pooling(o.pooling.value_or(model->config.pooling)),
        frame(model->tokenizer->encode_special("", true)),
        pool(o.threads) {}
  std::shared_ptr<Model> model;
  EmbedOptions options;
  Pooling pooling;
  std::vector<int> frame;  // what stands around a text: an empty one's ids
  std::mutex mutex;        // the rest is one call's
  Pool pool;
  Arena arena;
};

Embedder::Embedder(std::shared_ptr<Model> model, EmbedOptions options) : state_(std::make_unique<State>(std::move(model), options)) {
  state_->model->prepare(state_->pool, options.precision);
}

Embedder::~Embedder() = default;

bool Embedder::cut(std::vector<int>& ids) const {
  const size_t context = size_t(state_->model->config.context);
  if (ids.size() <= context) return false;
  // the end tokens stay: those of the frame that follow what both begin with
  const std::vector<int>& frame = state_->frame;
  size_t tail = frame.size() - size_t(common_prefix(frame, ids));
  if (tail >= context || !std::equal(frame.end() - ptrdiff_t(tail), frame.end(), ids.end() - ptrdiff_t(tail))) tail = 0;
  ids.erase(ids.begin() + ptrdiff_t(context - tail), ids.end() - ptrdiff_t(tail));
  return true;
}

std::vector<int> Embedder::encode(std::string_view text, bool& was_cut) const {
  std::vector<int> ids = state_->model->tokenizer->encode_special(text, true);
  was_cut = cut(ids);
  return ids;
}

std::vector<std::vector<float>> Embedder::embed(std::span<const std::vector<int>> texts, const std::function<void(size_t)>& progress) {
  Model& model = *state_->model;
  for (const std::vector<int>& ids : texts) check_text(ids, model.config);
  std::lock_guard lock(state_->mutex);
  std::vector<std::vector<float>> vectors;
  while (vectors.size() < texts.size()) {
    Batch batch;
    for (size_t i = vectors.size(); i < texts.size(); i++) {
      if (batch.rows() > 0 && batch.rows() + int64_t(texts[i].size()) > kBatchTokens) break;
      batch.add(0, 0, texts[i], false);
    }
    state_->arena.reset();
    Run run{state_->arena, state_->pool, nullptr, nullptr, nullptr, state_->options.precision};
    const Var* states = model.hidden(run, batch);
    for (const Batch::Segment& s : batch.segments) {
      vectors.push_back(pooled(states->data + int64_t(s.first) * states->cols, s.count, states->cols, state_->pooling));
      if (!std::all_of(vectors.back().begin(), vectors.back().end(), [](float v) { return std::isfinite(v); }))
        throw model.why_not_finite();
      if (state_->options.normalize) normalize(vectors.back());
    }
    if (progress) progress(vectors.size());
  }
  return vectors;
}

}  // namespace fettle
