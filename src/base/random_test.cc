// PCG32 against its author's demonstration output; the rest by its moments.
#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace fettle {
namespace {

TEST(Random, PublishedSequence) {
  Random random(42, 54);
  for (uint32_t expected : {0xa15c02b7u, 0x7b47f409u, 0xba1d3330u, 0x83d2f293u, 0xbfa4784bu, 0xcbed606eu})
    EXPECT_EQ(random.next(), expected);
}

TEST(Random, CopiesReplay) {
  Random a(7);
  a.normal();
  Random b = a;
  for (int i = 0; i < 100; i++) EXPECT_EQ(a.normal(), b.normal());
}

TEST(Random, Moments) {
  Random random(1);
  constexpr int kDraws = 200000;
  double uniform = 0, normal = 0, square = 0;
  std::vector<int> faces(6, 0);
  for (int i = 0; i < kDraws; i++) {
    double u = random.uniform(), g = random.normal();
    ASSERT_TRUE(u >= 0 && u < 1);
    uniform += u;
    normal += g;
    square += g * g;
    faces[random.below(6)]++;
  }
  EXPECT_NEAR(uniform / kDraws, 0.5, 0.005);
  EXPECT_NEAR(normal / kDraws, 0, 0.01);
  EXPECT_NEAR(square / kDraws, 1, 0.02);
  for (int face : faces) EXPECT_NEAR(face, kDraws / 6.0, kDraws / 100.0);
}

TEST(Random, ShuffleIsAPermutation) {
  std::vector<int> v(100), sorted(100);
  std::iota(v.begin(), v.end(), 0);
  sorted = v;
  Random(3).shuffle(v);
  EXPECT_NE(v, sorted);
  std::sort(v.begin(), v.end());
  EXPECT_EQ(v, sorted);
}

}  // namespace
}  // namespace fettle
