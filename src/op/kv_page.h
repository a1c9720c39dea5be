// What lies in a page of keys and values of one kv head, for each element that a cache may have. Private to the room.
//
//   F32, F16   keys: panels of 16 tokens, interleaved by dimension: [kPage / 16][head_dim][16].  values: rows, [kPage][head_dim].
//   Q8_0       a token's key or value is blocks of 32 dimensions under one f16 scale; the last block is filled up with zeros.
//              keys: panels of 16 tokens as gemm_int8 reads them, [kPage / 16][blocks]: codes [8][16][4], 128 for zero, then 16 scales.
//              values: codes in rows, [kPage][blocks * 32], 0 for zero, then scales [blocks][kPage].
//
// A page may hold old or no tokens behind its last one: nothing but products that are not looked at is made of them.
#pragma once
#include <cstdint>

#include "op/kv_cache.h"

namespace fettle {

struct KvPage {
  const Format* element;
  int head_dim;
  void *k, *v;

  // key, value: (head_dim)
  void write(int slot, const float* key, const float* value) const;
  // out (rows, head_dim) += p (rows, kPage) of the first `width` tokens times their values.
  void add_values(const float* p, int rows, int width, float* out) const;
};

// Queries of one task, in the form in which they meet keys. Keys of Q8_0 are multiplied with queries in 8 bits. One at a time per thread.
class PageQueries {
 public:
  // q: (rows, head_dim), as long as this is used
  PageQueries(const Format* element, const float* q, int rows, int head_dim, float scale);
  // out (rows, kPage) = scale * products with the page's first `width` keys; what is behind them in `out` stays.
  void scores(const KvPage& page, int width, float* out) const;

 private:
  struct Codes;
  const float* q_;
  int rows_, head_dim_;
  float scale_;
  const Codes* codes_ = nullptr;  // Q8_0
};

}  // namespace fettle
