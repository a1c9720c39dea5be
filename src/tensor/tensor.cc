// Arenas and shapes. A block once obtained is kept until the arena goes; release() only moves the mark, so that the next pass finds its
// memory warm. Large blocks ask for huge pages: activations are streamed, and page walks would show.
#include "tensor/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#include "base/base.h"

namespace fettle {
namespace {

constexpr size_t kAlign = 64, kHugePage = size_t(2) << 20;
constexpr size_t kMostBytes = size_t(1) << 47;  // an address space; more is a wrapped product

}  // namespace

std::string Shape::text() const {
  std::string result;
  for (int i = 0; i < n; i++) result += (i ? " x " : "") + std::to_string(dim[i]);
  return n ? result : "scalar";
}

Arena::~Arena() = default;

void* Arena::bytes(size_t n) {
  if (n > kMostBytes) throw failed({}, "out of memory: a buffer of " + std::to_string(n) + " bytes was asked for");
  n = std::max(kAlign, (n + kAlign - 1) / kAlign * kAlign);
  if (current_ < blocks_.size() && n <= blocks_[current_].size - used_) {
    used_ += n;
    return blocks_[current_].data.get() + (used_ - n);
  }
  // every block after the current one is free, and so is the current one while nothing of it is used
  size_t next = std::min(blocks_.size(), used_ > 0 ? current_ + 1 : current_), found = blocks_.size();
  // the smallest that fits, or a small buffer would take the place of the next pass's large one
  for (size_t i = next; i < blocks_.size(); i++)
    if (blocks_[i].size >= n && (found == blocks_.size() || blocks_[i].size < blocks_[found].size)) found = i;
  if (found == blocks_.size()) add_block(n);
  std::swap(blocks_[next], blocks_[found]);
  current_ = next;
  used_ = n;
  return blocks_[current_].data.get();
}

void Arena::add_block(size_t n) {
  size_t size = std::max(n, block_bytes_);
  size_t align = size >= kHugePage ? kHugePage : kAlign;
  size = (size + align - 1) / align * align;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(align, size));
  if (!data)
    throw failed({}, "out of memory: " + format_bytes(double(size)) + " more were asked for", "lower the context, the batch or --threads");
  // advice: a kernel without huge pages says no, and nothing is lost
  if (size >= kHugePage) ::madvise(data, size, MADV_HUGEPAGE);
  blocks_.push_back({{data, std::free}, size});
}

size_t Arena::reserved_bytes() const {
  size_t sum = 0;
  for (const Block& block : blocks_) sum += block.size;
  return sum;
}

}  // namespace fettle
