// Keys and values of past tokens, in pages that sequences take as they grow and may share (prefixes). What lies in a page is the attention
// kernel's matter: op/kv_page.h.
#pragma once
#include <cstdint>
#include <vector>

#include "format/format.h"
#include "op/batch.h"
#include "tensor/tensor.h"

namespace fettle {

class KvCache {
 public:
  static constexpr int kPage = 64;  // tokens per page, a multiple of the panel's 16
  // What keys and values are kept in unless something else is asked for: F16, or F32 where all is exact.
  static const Format* usual_element(Precision precision) { return find_format(precision == Precision::exact ? "F32" : "F16"); }
  struct Shape {
    int layers = 0, kv_heads = 0, head_dim = 0;
    // The keys, or the values, of one token in one head of one layer; a last block that they do not fill is a whole one.
    int64_t row_bytes(const Format* element) const {
      return int64_t(head_dim + element->block - 1) / element->block * element->block_bytes;
    }
    // Keys and values of one token.
    int64_t token_bytes(const Format* element) const { return 2 * int64_t(layers) * kv_heads * row_bytes(element); }
  };
  // element: F32 (exact), F16 or Q8_0. sequences: slots. tokens: capacity over all sequences, rounded up to pages.
  KvCache(Shape shape, const Format* element, int sequences, int64_t tokens);

  const Shape& shape() const { return shape_; }
  const Format* element() const { return element_; }
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

  // Page `index` of a sequence, for one layer and kv head.
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
  const Format* element_;
  int64_t plane_bytes_;
  Store store_;
  std::vector<int> free_, references_;
  std::vector<std::vector<int>> tables_;
};

}  // namespace fettle
