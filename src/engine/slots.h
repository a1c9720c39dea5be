// Which sequence of the KV cache holds which tokens. Finished sequences stay, so that the next prompt that begins alike starts where they
// agree; when room is needed the least recently used go. A kept sequence is never written below its length (its pages may be shared with
// others): a prompt that goes on exactly where a kept one ends takes it over, any other common beginning is shared into an empty sequence.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "model/model.h"

namespace fettle {

class Slots {
 public:
  // keep: whether finished sequences are kept.
  Slots(KvCache& kv, bool keep) : kv_(kv), keep_(keep), slots_(size_t(kv.sequences())) {}
  struct Place {
    int slot = 0, reused = 0;  // the first `reused` tokens are in the cache already
  };
  // A sequence for `tokens` with room for all of them and one more; at least one token is left to compute. spare_pages stay free for the
  // growth of others. reuse: whether kept tokens may be used. nullopt (nothing changed but evictions): not enough room now.
  std::optional<Place> place(std::span<const int> tokens, bool reuse, int spare_pages);
  // Room for `tokens` tokens in all; false when nothing more can be evicted.
  bool grow(int slot, int tokens);
  // These tokens are in the cache now.
  void append(int slot, std::span<const int> tokens);
  // The sequence is finished: it may be reused, then evicted.
  void release(int slot);
  // The sequence's pages are given back at once.
  void drop(int slot);
  // How many of `tokens`' first tokens some sequence holds.
  int longest(std::span<const int> tokens) const;

 private:
  struct Slot {
    std::vector<int> tokens;
    bool busy = false;
    uint64_t used = 0;  // clock of the last release; 0: empty
  };
  int best_match(std::span<const int> tokens, int& common) const;
  bool free_pages(int64_t pages, int except);
  bool evict_one(int except);
  int empty_slot(int except);
  KvCache& kv_;
  bool keep_;
  std::vector<Slot> slots_;
  uint64_t clock_ = 0;
};

}  // namespace fettle
