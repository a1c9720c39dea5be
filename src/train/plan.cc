#include "train/plan.h"

#include <algorithm>
#include <cmath>

namespace fettle {
namespace {

// Labelled tokens that a predecessor predicts.
int64_t trained_tokens(std::span<const int> labels) {
  int64_t n = 0;
  for (size_t i = 1; i < labels.size(); i++) n += labels[i] >= 0;
  return n;
}

void check_row(const TokenRow& row, int vocabulary, const std::string& where) {
  const std::string place = where + ": row " + std::to_string(row.row);
  if (row.ids.size() != row.labels.size())
    throw refused(place, "has " + std::to_string(row.ids.size()) + " ids but " + std::to_string(row.labels.size()) + " labels");
  for (int id : row.ids)
    if (id < 0 || id >= vocabulary)
      throw refused(place, "id " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(vocabulary));
  for (int label : row.labels)
    if (label >= vocabulary || (label < 0 && label != -100))
      throw refused(place, "label " + std::to_string(label) + " is neither -100 nor in the vocabulary of " + std::to_string(vocabulary));
}

void check_options(const TrainOptions& o) {
  if ((o.pack_rows > 0) != (o.pack_tokens > 0) || o.pack_rows < 0 || o.pack_tokens < 0 || o.pack_tokens == 1)
    throw usage("--pack needs rows x tokens, such as 4x512");
  if (o.batch < 1) throw usage("--batch must be at least 1");
  if (o.accumulate < 1) throw usage("--accumulate must be at least 1");
  if (o.max_tokens < 2) throw usage("--max-tokens must be at least 2");
  if (!(o.epochs > 0) || o.epochs > 1e6) throw usage("--epochs must be above 0");
  if (o.max_steps < 0) throw usage("--max-steps must not be negative");
  if (o.shuffle != "epoch" && o.shuffle != "none") throw usage("unknown --shuffle '" + o.shuffle + "'", "epoch or none");
}

}  // namespace

std::string Step::rows() const {
  std::string text;
  for (const TrainPiece& p : pieces) {
    text += (text.empty() ? "" : ", ") + std::to_string(p.first_row);
    if (p.last_row != p.first_row) text += " to " + std::to_string(p.last_row);
  }
  return text;
}

Plan::Plan(const std::vector<TokenRow>& rows, const TrainOptions& options, int vocabulary, int context, const std::string& place)
    : options_(options) {
  check_options(options);
  if (options.pack_tokens > context) throw usage("--pack windows are longer than the model's context of " + std::to_string(context));
  const size_t longest = size_t(std::max(2, std::min(options.max_tokens, context)));
  for (const TokenRow& row : rows) {
    check_row(row, vocabulary, place);
    digest_ = hash64(std::as_bytes(std::span(row.ids)), digest_ + 1);
    digest_ = hash64(std::as_bytes(std::span(row.labels)), digest_ + 1);
    const size_t n = std::min(longest, row.ids.size());
    truncated_ += n < row.ids.size();
    const TrainPiece piece{std::span(row.ids).first(n), std::span(row.labels).first(n), row.row, row.row};
    if (trained_tokens(piece.labels) == 0) {
      skipped_++;
      continue;
    }
    rows_.push_back(piece);
    row_tokens_ += int64_t(n);
  }
  if (rows_.empty())
    throw refused(place, rows.empty() ? "has no rows" : "no row has a token to train on",
                  truncated_ ? "answers may lie behind --max-tokens " + std::to_string(longest) : "");
  const int64_t each = packed() ? int64_t(options.pack_rows) * options.pack_tokens : options.batch;
  const int64_t all = packed() ? row_tokens_ : int64_t(rows_.size());
  steps_per_epoch_ =
      packed() ? std::max<int64_t>(1, (all - 1) / each) : (all + each - 1) / each;  // NOLINT: check_options() saw that it is no zero
  steps_ = std::max<int64_t>(1, int64_t(std::ceil(options.epochs * double(steps_per_epoch_) - 1e-9)));
  if (options.max_steps) steps_ = std::min(steps_, options.max_steps);
}

int64_t Plan::tokens() const {
  const double epochs = double(steps_) / double(steps_per_epoch_);
  const int64_t each = int64_t(options_.pack_rows) * options_.pack_tokens;
  return packed() ? std::min(steps_ * each, int64_t(epochs * double(row_tokens_))) : int64_t(epochs * double(row_tokens_));
}

std::vector<size_t> Plan::order(int64_t epoch) const {
  std::vector<size_t> order(rows_.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  if (options_.shuffle == "epoch") Random(options_.seed, 1 + uint64_t(epoch)).shuffle(order);
  return order;
}

void Plan::join(const std::vector<size_t>& order) {
  ids_.clear();
  labels_.clear();
  starts_.clear();
  for (size_t i : order) {
    starts_.push_back(int64_t(ids_.size()));
    ids_.insert(ids_.end(), rows_[i].ids.begin(), rows_[i].ids.end());
    labels_.insert(labels_.end(), rows_[i].labels.begin(), rows_[i].labels.end());
  }
}

Step Plan::step(int64_t index) {
  const int64_t epoch = index / steps_per_epoch_, at = index % steps_per_epoch_;
  if (epoch != epoch_) {
    order_ = order(epoch);
    if (packed()) join(order_);
    epoch_ = epoch;
  }
  Step step;
  if (!packed()) {
    const size_t first = size_t(at) * size_t(options_.batch), last = std::min(rows_.size(), first + size_t(options_.batch));
    for (size_t i = first; i < last; i++) step.pieces.push_back(rows_[order_[i]]);
  } else {
    const size_t window = size_t(options_.pack_tokens);
    const auto row_at = [&](size_t token) {
      const auto next = std::upper_bound(starts_.begin(), starts_.end(), int64_t(token));
      return rows_[order_[size_t(next - starts_.begin()) - 1]].first_row;
    };
    for (size_t i = 0; i < size_t(options_.pack_rows); i++) {
      const size_t first = (size_t(at) * size_t(options_.pack_rows) + i) * window, last = std::min(ids_.size(), first + window);
      if (first >= last) break;
      step.pieces.push_back(
          {std::span(ids_).subspan(first, last - first), std::span(labels_).subspan(first, last - first), row_at(first), row_at(last - 1)});
    }
  }
  for (const TrainPiece& p : step.pieces) {
    step.tokens += int64_t(p.ids.size());
    step.trained += trained_tokens(p.labels);
  }
  return step;
}

namespace {

// A piece without what lies behind its last labelled token: that predicts nothing. Empty: nothing to train on.
size_t useful_tokens(const TrainPiece& p) {
  size_t end = p.labels.size();
  while (end > 1 && p.labels[end - 1] < 0) end--;
  return end <= 1 ? 0 : end - 1;
}

// The longest beginning that all pieces have in common, before the first token of any that predicts.
size_t common_beginning(const std::vector<const TrainPiece*>& pieces) {
  size_t n = pieces.size() < 2 ? 0 : useful_tokens(*pieces[0]);
  for (const TrainPiece* p : pieces) {
    size_t first = 1;
    while (p->labels[first] < 0) first++;
    n = std::min({n, first - 1, size_t(common_prefix(p->ids, pieces[0]->ids))});
  }
  return n;
}

}  // namespace

TrainBatch make_batch(std::span<const TrainPiece> pieces) {
  constexpr size_t kWorthSharing = 4;  // tokens
  std::vector<const TrainPiece*> useful;
  for (const TrainPiece& p : pieces)
    if (useful_tokens(p)) useful.push_back(&p);
  size_t shared = common_beginning(useful);
  if (shared < kWorthSharing) shared = 0;
  TrainBatch b;
  if (shared) b.batch.add(0, 0, useful[0]->ids.first(shared), false);
  for (const TrainPiece* p : useful) {
    const size_t n = useful_tokens(*p);
    const int first = b.batch.rows() - int(shared);
    if (shared)
      b.batch.add_behind(0, p->ids.subspan(shared, n - shared));
    else
      b.batch.add(int(b.batch.segments.size()), 0, p->ids.first(n), false);
    for (size_t i = 1; i <= n; i++)
      if (p->labels[i] >= 0) {
        b.batch.wanted.push_back(first + int(i) - 1);
        b.targets.push_back(p->labels[i]);
      }
  }
  return b;
}

}  // namespace fettle
