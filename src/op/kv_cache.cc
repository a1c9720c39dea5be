#include "op/kv_cache.h"

#include <sys/mman.h>

#include <cstring>

#include "base/base.h"

namespace fettle {

// Mapped memory: pages that no token has touched yet cost nothing.
KvCache::Store::Store(size_t n) : bytes(n) {
  void* p = mmap(nullptr, n + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    throw failed("memory", "no room for a KV cache of " + format_bytes(double(n)), "use a smaller --context or --parallel");
  data = static_cast<std::byte*>(p);
}
KvCache::Store::~Store() { munmap(data, bytes + 4096); }

KvCache::KvCache(Shape shape, const Format* element, int sequences, int64_t tokens)
    : shape_(shape),
      element_(element),
      plane_bytes_(kPage * shape.row_bytes(element)),
      store_(size_t((tokens + kPage - 1) / kPage) * size_t(shape.layers) * size_t(shape.kv_heads) * 2 * size_t(plane_bytes_)),
      tables_(size_t(sequences)) {
  CHECK(element == find_format("F32") || element == find_format("F16") || element == find_format("Q8_0"), "what a page can hold");
  const int pages = int((tokens + kPage - 1) / kPage);
  references_.resize(size_t(pages));
  for (int i = pages; i-- > 0;) free_.push_back(i);
}

bool KvCache::reserve(int sequence, int tokens) {
  std::vector<int>& table = tables_[size_t(sequence)];
  const size_t need = size_t((tokens + kPage - 1) / kPage);
  if (need > table.size() && need - table.size() > free_.size()) return false;
  while (table.size() < need) {
    table.push_back(free_.back());
    references_[size_t(free_.back())] = 1;
    free_.pop_back();
  }
  return true;
}

void KvCache::truncate(int sequence, int tokens) {
  std::vector<int>& table = tables_[size_t(sequence)];
  const size_t keep = size_t((tokens + kPage - 1) / kPage);
  while (table.size() > keep) {
    if (--references_[size_t(table.back())] == 0) free_.push_back(table.back());
    table.pop_back();
  }
}

void KvCache::clear_all() {
  for (int i = 0; i < sequences(); i++) clear(i);
}

bool KvCache::share(int from, int to, int tokens) {
  CHECK(tables_[size_t(to)].empty(), "share() fills an empty sequence");
  const int whole = tokens / kPage;
  if (tokens % kPage && free_.empty()) return false;
  for (int i = 0; i < whole; i++) {
    int page = tables_[size_t(from)][size_t(i)];
    references_[size_t(page)]++;
    tables_[size_t(to)].push_back(page);
  }
  if (tokens % kPage) {
    reserve(to, tokens);
    const int64_t bytes = int64_t(shape_.layers) * shape_.kv_heads * 2 * plane_bytes_;
    std::memcpy(store_.data + tables_[size_t(to)].back() * bytes, store_.data + tables_[size_t(from)][size_t(whole)] * bytes,
                size_t(bytes));
  }
  return true;
}

}  // namespace fettle
