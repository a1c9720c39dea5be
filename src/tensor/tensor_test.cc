#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/base.h"

namespace fettle {
namespace {

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; }

TEST(Shape, RowsColsText) {
  EXPECT_EQ(Shape({576, 1536}).text(), "576 x 1536");
  EXPECT_EQ(Shape({2, 3, 4}).rows(), 6);
  EXPECT_EQ(Shape({2, 3, 4}).cols(), 4);
  EXPECT_EQ(Shape().count(), 1);
  EXPECT_EQ(Shape().text(), "scalar");
  EXPECT_NE(Shape({4}), Shape({4, 1}));
}

TEST(Arena, BuffersAreAlignedAndApart) {
  Arena arena(4096);
  std::vector<std::pair<unsigned char*, size_t>> buffers;
  for (size_t i = 0; i < 200; i++) {
    size_t n = i * 37 % 9000;
    auto* p = arena.get<unsigned char>(n);
    ASSERT_TRUE(aligned(p));
    std::memset(p, int(i), n);
    buffers.push_back({p, n});
  }
  for (size_t i = 0; i < buffers.size(); i++)
    for (size_t k = 0; k < buffers[i].second; k++) ASSERT_EQ(buffers[i].first[k], i % 256);
}

TEST(Arena, ReleaseKeepsBlocksAndWhatIsBelowTheMark) {
  Arena arena(1 << 16);
  int* kept = arena.get<int>(100);
  kept[99] = 7;
  Arena::Mark mark = arena.mark();
  size_t reserved = 0;
  std::vector<void*> first;
  for (int pass = 0; pass < 5; pass++) {
    std::vector<void*> places;
    // in changing order, one larger than a block
    for (size_t n : {size_t(50000), size_t(200000), size_t(30000 + pass * 1000), size_t(60000)}) {
      places.push_back(arena.bytes(n));
      std::memset(places.back(), 1, n);
    }
    if (pass == 0) reserved = arena.reserved_bytes(), first = places;
    EXPECT_EQ(arena.reserved_bytes(), reserved) << "pass " << pass;
    EXPECT_EQ(places, first);
    arena.release(mark);
  }
  EXPECT_EQ(kept[99], 7);
  arena.reset();
  EXPECT_EQ(arena.get<int>(1), kept);
}

TEST(Arena, BlocksOfOtherSizesAreFoundAgain) {
  Arena arena(4096);
  for (size_t n : {4096, 8192, 16384}) arena.bytes(n);
  size_t reserved = arena.reserved_bytes();
  for (int pass = 0; pass < 3; pass++) {
    arena.reset();
    for (size_t n : {16384, 4096, 8192}) std::memset(arena.bytes(n), 0, n);
    EXPECT_EQ(arena.reserved_bytes(), reserved);
  }
}

TEST(Arena, LargeBlocksAndMoves) {
  Arena arena;
  auto* p = arena.get<float>(10 << 20);
  EXPECT_TRUE(aligned(p));
  p[(10 << 20) - 1] = 3;
  EXPECT_GE(arena.reserved_bytes(), size_t(40) << 20);
  Arena other = std::move(arena);
  EXPECT_EQ(p[(10 << 20) - 1], 3);
  EXPECT_EQ(arena.reserved_bytes(), 0u);  // NOLINT: a moved-from arena starts anew
  *arena.get<float>(1) = 1;
  *other.get<float>(1) = 1;
}

TEST(Arena, NoMemoryIsAnError) {
  Arena arena;
  EXPECT_THROW(arena.bytes(SIZE_MAX), Error);
  EXPECT_THROW(arena.bytes(SIZE_MAX / 8), Error);
  EXPECT_THROW(arena.get<double>(SIZE_MAX / 4), Error);  // the product would wrap
  EXPECT_TRUE(aligned(arena.bytes(0)));
}

}  // namespace
}  // namespace fettle
