#include "op/probe.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "op/kernels.h"
#include "op/panels.h"

namespace fettle {
namespace {

// Runs body(thread) on all threads until `seconds` have passed; returns calls per second of the fastest fifth: what the machine can do, not
// what others left of it.
template <class Body>
double rate(Pool& pool, double seconds, Body body) {
  for (int warm = 0; warm < 2; warm++) pool.run(pool.threads(), body);
  std::vector<double> turns;
  const double end = now_seconds() + seconds;
  for (double start = now_seconds(); start < end || turns.empty();) {
    pool.run(pool.threads(), body);
    const double now = now_seconds();
    turns.push_back(now - start);
    start = now;
  }
  const size_t fastest = turns.size() / 5;
  std::nth_element(turns.begin(), turns.begin() + long(fastest), turns.end());
  return pool.threads() / turns[fastest];
}

}  // namespace

MachineProbe probe_machine(Pool& pool, double seconds) {
  MachineProbe result;
  const int threads = pool.threads();
  {
    // more than caches hold, some of which have hundreds of megabytes; a quick look may be flattered by them
    const size_t all = std::min<uint64_t>(free_memory() / 4, size_t(seconds < 0.1 ? 192 : 512) << 20);
    const size_t each = std::max<size_t>(all / size_t(threads) / 4096, 1) * 4096;
    std::vector<PanelMemory> memory;
    for (int i = 0; i < threads; i++) memory.emplace_back(each), std::memset(memory.back().get(), 1, each);
    std::atomic<uint64_t> sink{0};
    result.read_gbps = rate(pool, seconds,
                            [&](int i) {
                              const uint64_t* p = reinterpret_cast<const uint64_t*>(memory[size_t(i)].get());
                              uint64_t s[8] = {};
                              for (size_t j = 0; j < each / 8; j += 8) {
                                __builtin_prefetch(p + j + 1024, 0, 2);
                                for (int k = 0; k < 8; k++) s[k] += p[j + size_t(k)];
                              }
                              sink += s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
                            }) *
                       double(each) / 1e9;
  }
  const auto arithmetic = [&](Arithmetic kind) {
    constexpr int kRounds = 20000;
    return rate(pool, seconds, [&](int) { kernels().peak(kind, kRounds); }) * double(kernels().peak(kind, kRounds)) / 1e9;
  };
  result.f32_gflops = arithmetic(Arithmetic::f32);
  result.bf16_gflops = arithmetic(Arithmetic::bf16);
  result.int8_gops = arithmetic(Arithmetic::int8);
  return result;
}

}  // namespace fettle
