#include "engine/slots.h"

#include <algorithm>

namespace fettle {
namespace {

constexpr int kLeastShared = 8;  // below this, computing again costs less than copying a page

int64_t pages_for(int64_t tokens) { return (tokens + KvCache::kPage - 1) / KvCache::kPage; }

}  // namespace

int Slots::best_match(std::span<const int> tokens, int& common) const {
  int best = -1;
  common = 0;
  for (size_t i = 0; i < slots_.size(); i++) {
    const int n = common_prefix(slots_[i].tokens, tokens);
    // Of equals, the one that can be taken over.
    const bool whole = !slots_[i].busy && size_t(n) == slots_[i].tokens.size();
    if (n > common || (n == common && n > 0 && whole)) {
      best = int(i);
      common = n;
    }
  }
  return best;
}

int Slots::longest(std::span<const int> tokens) const {
  int common = 0;
  best_match(tokens, common);
  return common;
}

bool Slots::evict_one(int except) {
  int oldest = -1;
  for (size_t i = 0; i < slots_.size(); i++) {
    const Slot& s = slots_[i];
    if (s.busy || s.used == 0 || int(i) == except) continue;
    if (oldest < 0 || s.used < slots_[size_t(oldest)].used) oldest = int(i);
  }
  if (oldest < 0) return false;
  drop(oldest);
  return true;
}

// Evicts until `pages` pages are free; false when they cannot be.
bool Slots::free_pages(int64_t pages, int except) {
  while (kv_.free_tokens() < pages * KvCache::kPage) {
    if (!evict_one(except)) return false;
  }
  return true;
}

int Slots::empty_slot(int except) {
  do {
    for (size_t i = 0; i < slots_.size(); i++) {
      if (!slots_[i].busy && slots_[i].used == 0) return int(i);
    }
  } while (evict_one(except));
  return -1;
}

std::optional<Slots::Place> Slots::place(std::span<const int> tokens, bool reuse, int spare_pages) {
  int common = 0, source = reuse && keep_ ? best_match(tokens, common) : -1;
  const int room = int(tokens.size()) + 1;
  if (source >= 0) {
    Slot& kept = slots_[size_t(source)];
    if (!kept.busy && size_t(common) == kept.tokens.size() && common < int(tokens.size())) {
      if (free_pages(pages_for(room) - pages_for(common) + spare_pages, source) && kv_.reserve(source, room)) {
        kept.busy = true;
        return Place{source, common};
      }
    }
    common = std::min(common, int(tokens.size()) - 1);
    const int slot = common >= kLeastShared ? empty_slot(source) : -1;
    if (slot >= 0 && free_pages(pages_for(room) - common / KvCache::kPage + spare_pages, source)) {
      CHECK(kv_.share(source, slot, common) && kv_.reserve(slot, room), "pages were counted wrongly");
      if (!kept.busy) kept.used = ++clock_;
      slots_[size_t(slot)].busy = true;
      slots_[size_t(slot)].tokens.assign(tokens.begin(), tokens.begin() + common);
      return Place{slot, common};
    }
  }
  const int slot = empty_slot(-1);
  if (slot < 0 || !free_pages(pages_for(room) + spare_pages, -1) || !kv_.reserve(slot, room)) return std::nullopt;
  slots_[size_t(slot)].busy = true;
  return Place{slot, 0};
}

bool Slots::grow(int slot, int tokens) {
  while (!kv_.reserve(slot, tokens)) {
    if (!evict_one(-1)) return false;
  }
  return true;
}

void Slots::append(int slot, std::span<const int> tokens) {
  std::vector<int>& held = slots_[size_t(slot)].tokens;
  held.insert(held.end(), tokens.begin(), tokens.end());
}

void Slots::release(int slot) {
  Slot& s = slots_[size_t(slot)];
  if (!keep_ || s.tokens.empty()) return drop(slot);
  kv_.truncate(slot, int(s.tokens.size()));
  s.busy = false;
  s.used = ++clock_;
}

void Slots::drop(int slot) {
  kv_.clear(slot);
  slots_[size_t(slot)] = {};
}

}  // namespace fettle
