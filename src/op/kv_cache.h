// Keys and values of past tokens, in pages that sequences take as they grow and may share (prefixes). The layout is the attention kernel's:
// in a page, keys are panels of 16 tokens interleaved by dimension (lanes are tokens), values are rows (lanes are dimensions).
#pragma once
#include <cstdint>
#include <vector>

#include "format/format.h"
#include "tensor/tensor.h"

namespace fettle {

class KvCache {
 public:
  static constexpr int kPage = 64;  // tokens per page, a multiple of the panel's 16
  struct Shape {
    int layers = 0, kv_heads = 0, head_dim = 0;
    // Keys and values of one token.
    int64_t token_bytes(const Format* element) const { return 2 * element->bytes_for(int64_t(layers) * kv_heads * head_dim); }
  };
  // element: F32 (exact) or F16. sequences: slots. tokens: capacity over all sequences, rounded up to pages.
  KvCache(Shape shape, const Format* element, int sequences, int64_t tokens);

  const Shape& shape() const { return shape_; }
  bool half() const { return half_; }
  int sequences() const { return int(tables_.size()); }
  int64_t free_tokens() const { return int64_t(free_.size()) * kPage; }
  int64_t bytes() const { return int64_t(store_.size()); }
  // Makes room for `tokens` tokens in all of `sequence`; false (and nothing changed) when pages run out.
  bool reserve(int sequence, int tokens);
  // Gives back every page beyond the first `tokens` tokens.
  void truncate(int sequence, int tokens);
  void clear(int sequence) { truncate(sequence, 0); }
  void clear_all();
  // `to` (empty) begins with the first `tokens` tokens of `from`: whole pages are shared, the last partial one is copied.
  // False when no page is free for the copy.
  bool share(int from, int to, int tokens);

  // Page `index` of a sequence, for one layer and kv head: K as [kPage/16][head_dim][16], V as [kPage][head_dim].
  void* k(int layer, int sequence, int index, int head) { return at(layer, tables_[sequence][index], head, 0); }
  void* v(int layer, int sequence, int index, int head) { return at(layer, tables_[sequence][index], head, 1); }

 private:
  void* at(int layer, int page, int head, int which) {
    int64_t i = ((int64_t(page) * shape_.layers + layer) * shape_.kv_heads + head) * 2 + which;
    return store_.data + i * plane_bytes_;
  }
  struct Store {
    explicit Store(size_t bytes);
    ~Store();
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;
    size_t size() const { return bytes; }
    std::byte* data = nullptr;
    size_t bytes = 0;
  };
  Shape shape_;
  bool half_;
  int64_t plane_bytes_;
  Store store_;
  std::vector<int> free_, references_;
  std::vector<std::vector<int>> tables_;
};

}  // namespace fettle
