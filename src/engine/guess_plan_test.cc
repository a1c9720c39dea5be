// What passes take and what pays.
#include "engine/guess_plan.h"

#include <gtest/gtest.h>

namespace fettle {
namespace {

TEST(PassTimes, AreThoseOfTheUsualPass) {
  PassTimes times;
  EXPECT_EQ(times.of(1), 0);
  for (double t : {9.0, 1.0, 1.1, 0.9}) times.add(1, t);
  EXPECT_EQ(times.of(1), 1) << "the first one was disturbed";
  EXPECT_EQ(times.seen(1), 4);
  EXPECT_DOUBLE_EQ(times.of(3), 1.2) << "expected of more rows";
  times.add(3, 2);
  EXPECT_EQ(times.of(3), 2);
  EXPECT_DOUBLE_EQ(times.of(2.5), (1.1 + 2) / 2) << "rows between two numbers";
  for (int i = 0; i < 20; i++) times.add(1, 5);
  EXPECT_EQ(times.of(1), 5) << "what was long ago is forgotten";
  times.add(99, 1);
  EXPECT_EQ(times.seen(99), 0);
}

TEST(GuessPlan, GuessesAsFarAsItPays) {
  PassTimes target, cheap, dear;
  for (int rows = 1; rows <= 9; rows++) target.add(rows, 1 + 0.1 * (rows - 1));
  cheap.add(1, 0.05);
  dear.add(1, 0.8);
  const GuessRates always{9, 0, 0}, often{8, 2, 0}, unsure{5, 1, 4}, seldom{1, 8, 0}, never{0, 9, 0};
  EXPECT_EQ(best_guesses(always, 1, 7, target, cheap), 7);
  const int some = best_guesses(often, 1, 7, target, cheap);
  EXPECT_GT(some, 1);
  EXPECT_LT(some, 7);
  EXPECT_GT(best_guesses(unsure, 1, 7, target, cheap), 0);
  EXPECT_EQ(best_guesses(seldom, 1, 7, target, cheap), 0);
  EXPECT_EQ(best_guesses(never, 1, 7, target, cheap), 0);
  EXPECT_EQ(best_guesses(often, 1, 7, target, dear), 0);
  EXPECT_EQ(best_guesses(always, 1, 0, target, cheap), 0);
  EXPECT_LT(best_guesses(often, 4, 7, target, cheap), some) << "each guess is a row, and four sequences make four of them";
}

TEST(GuessPlan, RatesFade) {
  GuessRates rates = GuessRates{10, 5, 5}.scaled(8);
  EXPECT_DOUBLE_EQ(rates.total(), 8);
  EXPECT_DOUBLE_EQ(rates.right, 4);
  for (int i = 0; i < 1000; i++) rates.add({0, 1, 0}, 32);
  EXPECT_NEAR(rates.wrong, 32, 1e-6);
  EXPECT_NEAR(rates.right, 0, 1e-6);
}

}  // namespace
}  // namespace fettle
