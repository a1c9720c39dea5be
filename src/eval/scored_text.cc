#include "eval/scored_text.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "eval/answers.h"

namespace fettle {
namespace {

constexpr int kBatchTokens = 512;  // windows are read together up to this many tokens

std::vector<Window> chunks_of(const char* task, const EvalInput& input) {
  Model& model = input.engine->model();
  const int length = input.chunk_tokens;
  if (length < 4 || length > model.config.context)
    throw usage("chunks of " + std::to_string(length) + " tokens: expected 4 to the model's context of " +
                std::to_string(model.config.context));
  const std::vector<int> ids = model.tokenizer->encode(input.text);
  size_t chunks = ids.size() / size_t(length);
  if (chunks == 0)
    throw refused(task, "the text has " + std::to_string(ids.size()) + " tokens, less than one chunk of " + std::to_string(length),
                  "give more text, or smaller chunks");
  if (input.max_chunks > 0) chunks = std::min(chunks, size_t(input.max_chunks));
  std::vector<Window> windows(chunks);
  for (size_t c = 0; c < chunks; c++) {
    windows[c].id = int64_t(c);
    windows[c].ids.assign(ids.begin() + long(c) * length, ids.begin() + long(c + 1) * length);
    for (int i = length / 2; i + 1 < length; i++) windows[c].rows.push_back(i);
  }
  return windows;
}

std::vector<Window> turns_of(const char* task, const EvalInput& input) {
  Model& model = input.engine->model();
  const ChatFormat format = model.chat_format();
  std::vector<Window> windows;
  for (const Example& e : examples_of(task, input)) {
    const TokenRow row = format.train_row(e);
    if (int(row.ids.size()) > model.config.context)
      throw refused(place_of(e), "the conversation has " + std::to_string(row.ids.size()) + " tokens, the model's context is " +
                                     std::to_string(model.config.context));
    Window w{int64_t(windows.size()), row.ids, {}};
    for (size_t i = 0; i + 1 < row.ids.size(); i++) {
      if (row.labels[i + 1] >= 0) w.rows.push_back(int(i));
    }
    windows.push_back(std::move(w));
  }
  if (std::all_of(windows.begin(), windows.end(), [](const Window& w) { return w.rows.empty(); }))
    throw refused(input.examples->front().file, "no row has an assistant's turn to score");
  return windows;
}

}  // namespace

std::vector<Window> windows_of(const char* task, const EvalInput& input) {
  return input.text.empty() ? turns_of(task, input) : chunks_of(task, input);
}

EvalWork plan_windows(const char* task, const EvalInput& input) {
  EvalWork work;
  for (const Window& w : windows_of(task, input)) {
    work.rows++;
    work.read_tokens += int64_t(w.ids.size());
    work.scored_tokens += int64_t(w.rows.size());
  }
  return work;
}

void Reader::read(std::span<const Window> windows) {
  model_.require_text();
  Batch batch;
  int64_t tokens = 0;
  for (const Window& w : windows) tokens += (int64_t(w.ids.size()) / KvCache::kPage + 1) * KvCache::kPage;
  if (element_ != find_format("F32"))  // where nothing is rounded, pages made for this batch alone do as well
    kv_ = std::make_unique<KvCache>(model_.kv_shape(), element_, int(windows.size()), tokens);
  std::vector<int> wanted;
  for (size_t i = 0; i < windows.size(); i++) {
    const Window& w = windows[i];
    if (kv_) CHECK(kv_->reserve(int(i), int(w.ids.size())), "the cache was made for these windows");
    for (int row : w.rows) wanted.push_back(batch.rows() + row);
    batch.add(int(i), 0, w.ids, false);
  }
  batch.wanted = wanted;
  arena_.reset();
  Run run{arena_, pool_, kv_.get(), nullptr, nullptr, precision_};
  const Var* states = gather_rows(run, model_.network->hidden(run, batch), batch.wanted);
  hidden_.assign(states->data, states->data + states->count());
}

const float* Reader::logits(int first, int count) {
  arena_.reset();
  Run run{arena_, pool_, nullptr, nullptr, nullptr, precision_};
  Var* states = run.make(count, model_.config.d_model);
  std::memcpy(states->data, hidden_.data() + int64_t(first) * states->cols, size_t(states->count()) * 4);
  return linear(run, states, model_.head)->data;
}

void for_batches(const std::vector<Window>& windows, const EvalInput& input,
                 const std::function<void(std::span<const Window>, int rows)>& score) {
  for (size_t first = 0, last; first < windows.size(); first = last) {
    stop_if_interrupted();
    size_t tokens = windows[first].ids.size();
    for (last = first + 1; last < windows.size() && tokens + windows[last].ids.size() <= kBatchTokens; last++)
      tokens += windows[last].ids.size();
    int rows = 0;
    for (size_t i = first; i < last; i++) rows += int(windows[i].rows.size());
    if (rows > 0) score(std::span(windows).subspan(first, last - first), rows);
    if (input.progress) input.progress(int64_t(last), int64_t(windows.size()));
  }
}

// The variance of a ratio of sums, by the residuals of whole windows (Cochran 1977, 6.5).
Interval ratio_interval(const std::vector<WindowSum>& windows) {
  const double infinity = std::numeric_limits<double>::infinity();
  double sum = 0, count = 0, squares = 0, units = 0;
  for (const WindowSum& w : windows) {
    sum += w.sum;
    count += double(w.count);
    units += w.count > 0;
  }
  if (count == 0) return {0, -infinity, infinity};
  const double mean = sum / count;
  if (units < 2) return {mean, -infinity, infinity};
  for (const WindowSum& w : windows) squares += (w.sum - mean * double(w.count)) * (w.sum - mean * double(w.count));
  const double half = 1.959963984540054 * std::sqrt(squares * units / (units - 1)) / count;
  return {mean, mean - half, mean + half};
}

}  // namespace fettle
