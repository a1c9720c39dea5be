// The pool under what hurts such pools: many tiny jobs, nesting, several pools and callers, more threads than processors, long rests.
#include "base/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace fettle {
namespace {

TEST(Pool, RunsEachTaskOnceWhateverTheThreads) {
  for (int threads : {1, 2, 3, 8, 33}) {
    Pool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int tasks : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<int> hits(size_t(tasks), 0);  // plain ints: run() must order them with the caller
      pool.run(tasks, [&](int i) { hits[size_t(i)]++; });
      EXPECT_EQ(std::vector<int>(size_t(tasks), 1), hits) << threads << " threads";
    }
  }
}

TEST(Pool, ManyTinyJobs) {
  Pool pool(4);
  constexpr int kJobs = 20000;
  std::vector<int> sums(3, 0);
  for (int job = 0; job < kJobs; job++) pool.run(3, [&](int i) { sums[size_t(i)] += job % 5 + i; });
  EXPECT_EQ(sums, (std::vector<int>{kJobs * 2, kJobs * 3, kJobs * 4}));
}

// A late helper must never run a task of the next job with the last job's body.
TEST(Pool, JobsOfChangingSizeAndBody) {
  Pool pool(5);
  for (int job = 0; job < 4000; job++) {
    auto data = std::make_unique<std::vector<int>>(size_t(job % 9), -1);
    pool.run(int(data->size()), [&, d = data.get()](int i) { (*d)[size_t(i)] = job + i; });
    for (size_t i = 0; i < data->size(); i++) ASSERT_EQ((*data)[i], job + int(i));
  }
}

TEST(Pool, HelpersTakePart) {
  Pool pool(2);
  // each task waits for the other: with one thread only this would never end
  std::atomic<int> here{0};
  pool.run(2, [&](int) {
    here++;
    while (here < 2) std::this_thread::yield();
  });
  EXPECT_EQ(here, 2);
}

TEST(Pool, WakesParkedHelpers) {
  Pool pool(3);
  for (int rest = 0; rest < 20; rest++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(rest % 4));  // by then they are asleep
    std::atomic<int> here{0};
    pool.run(3, [&](int) {
      here++;
      while (here < 3) std::this_thread::yield();
    });
    ASSERT_EQ(here, 3);
  }
}

TEST(Pool, NestedRunsInPlace) {
  Pool outer(4), other(2);
  std::vector<int> hits(64, 0);
  outer.run(8, [&](int i) {
    auto me = std::this_thread::get_id();
    Pool& inner = i % 2 ? outer : other;
    inner.run(8, [&](int j) {
      EXPECT_EQ(std::this_thread::get_id(), me);
      hits[size_t(i * 8 + j)]++;
    });
  });
  EXPECT_EQ(hits, std::vector<int>(64, 1));
}

TEST(Pool, CallersAtTheSameTime) {
  Pool pool(3);
  std::vector<int64_t> sums(4, 0);
  std::vector<std::thread> callers;
  for (size_t c = 0; c < sums.size(); c++)
    callers.emplace_back([&, c] {
      for (int job = 0; job < 500; job++) {
        std::vector<int> parts(16, 0);
        pool.run(16, [&](int i) { parts[size_t(i)] = i; });
        sums[c] += std::accumulate(parts.begin(), parts.end(), 0);
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sums, std::vector<int64_t>(4, 500 * 120));
}

TEST(Pool, SeveralPoolsAtOnce) {
  std::vector<std::thread> owners;
  std::atomic<int> total{0};
  for (int p = 0; p < 3; p++)
    owners.emplace_back([&] {
      Pool pool(3);
      for (int job = 0; job < 300; job++) pool.run(5, [&](int) { total++; });
    });
  for (std::thread& owner : owners) owner.join();
  EXPECT_EQ(total, 3 * 300 * 5);
}

TEST(Pool, StartAndStopWithoutWork) {
  for (int i = 0; i < 50; i++) {
    Pool pool(1 + i % 6);
    if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

TEST(Pool, DefaultIsPhysicalCores) {
  EXPECT_GE(physical_cores(), 1);
  EXPECT_LE(physical_cores(), int(std::thread::hardware_concurrency()));
  EXPECT_EQ(Pool(0).threads(), physical_cores());
  EXPECT_EQ(Pool(-3).threads(), physical_cores());
}

}  // namespace
}  // namespace fettle
