#include "op/batch.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace fettle {

void Batch::add(int sequence, int start, std::span<const int> ids, bool want_last, bool want_all) {
  segments.push_back({sequence, start, rows(), int(ids.size())});
  for (size_t i = 0; i < ids.size(); i++) {
    if (want_all || (want_last && i + 1 == ids.size())) wanted.push_back(rows());
    tokens.push_back(ids[i]);
    positions.push_back(start + int(i));
  }
}

void Batch::add_behind(int prefix, std::span<const int> ids) {
  const int start = segments[size_t(prefix)].count;
  CHECK(segments[size_t(prefix)].start == 0, "prefixes do not nest");
  add(int(segments.size()), start, ids, false);
  segments.back().prefix = prefix;
}

void Batch::clear() {
  tokens.clear();
  positions.clear();
  segments.clear();
  wanted.clear();
  generated = 0;
}

float* Tape::grad(Var& v) {
  if (!v.grad) {
    v.grad = gradients_.get<float>(size_t(v.count()) + 16);
    std::memset(v.grad, 0, size_t(v.count()) * 4);
  }
  return v.grad;
}

void Tape::backward() {
  for (size_t i = entries_.size(); i-- > 0;) entries_[i]();
  entries_.clear();
  gradients_.reset();
}

Var* Run::make(int rows, int cols, bool needs_grad) {
  Var* v = new (arena.bytes(sizeof(Var))) Var;
  v->rows = rows;
  v->cols = cols;
  v->data = arena.get<float>(size_t(rows) * size_t(cols) + 16);
  v->needs_grad = needs_grad && tape;
  return v;
}

void Run::block(Var* stream, const std::function<void(Var*)>& body) {
  if (!tape) {
    Arena::Mark mark = arena.mark();
    body(stream);
    arena.release(mark);
    return;
  }
  tape->grad(*stream);  // below the mark: the stream's gradient outlives every block's
  auto mark = std::make_shared<Arena::Mark>();
  if (!tape->checkpoint_blocks) {
    tape->push([this, mark] { tape->gradients_.release(*mark); });
    body(stream);
    tape->push([this, mark] { *mark = tape->gradients_.mark(); });
    return;
  }
  // Keep the block's input alone. Going back: rebuild the block with a tape of its own entries, run those, put the stream back.
  float* input = arena.get<float>(size_t(stream->count()));
  std::memcpy(input, stream->data, size_t(stream->count()) * 4);
  Arena::Mark kept = arena.mark();
  Tape* outer = tape;
  const bool needed = stream->needs_grad;
  tape = nullptr;
  body(stream);
  tape = outer;
  stream->needs_grad = true;
  arena.release(kept);
  tape->push([this, stream, input, body, needed] {
    Arena::Mark here = arena.mark(), gradients = tape->gradients_.mark();
    std::memcpy(stream->data, input, size_t(stream->count()) * 4);
    stream->needs_grad = needed;
    std::vector<std::function<void()>> outside;
    outside.swap(tape->entries_);
    body(stream);
    std::vector<std::function<void()>> inside;
    inside.swap(tape->entries_);
    outside.swap(tape->entries_);
    for (size_t i = inside.size(); i-- > 0;) inside[i]();
    tape->gradients_.release(gradients);
    arena.release(here);
  });
}

}  // namespace fettle
