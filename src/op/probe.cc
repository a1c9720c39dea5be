#include "op/probe.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "op/kernels.h"
#include "op/panels.h"

namespace fettle {
namespace {

// Runs body(thread) on all threads until `seconds` have passed; returns calls per second.
template <class Body>
double rate(Pool& pool, double seconds, Body body) {
  for (int warm = 0; warm < 2; warm++) pool.run(pool.threads(), body);
  const double start = now_seconds();
  int64_t calls = 0;
  do {
    pool.run(pool.threads(), body);
    calls += pool.threads();
  } while (now_seconds() - start < seconds);
  return double(calls) / (now_seconds() - start);
}

}  // namespace

MachineProbe probe_machine(Pool& pool, double seconds) {
  MachineProbe result;
  const int threads = pool.threads();
  {
    const size_t each = size_t(192) << 20;
    std::vector<PanelMemory> memory;
    for (int i = 0; i < threads; i++) memory.emplace_back(each), std::memset(memory.back().get(), 1, each);
    std::atomic<uint64_t> sink{0};
    result.read_gbps = rate(pool, seconds,
                            [&](int i) {
                              const uint64_t* p = reinterpret_cast<const uint64_t*>(memory[size_t(i)].get());
                              uint64_t s[8] = {};
                              for (size_t j = 0; j < each / 8; j += 8)
                                for (int k = 0; k < 8; k++) s[k] += p[j + size_t(k)];
                              sink += s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
                            }) *
                       double(each) / 1e9;
  }
  // 48 rows times 32 lanes over 256 inputs: operands fit the first-level cache.
  constexpr int kM = 48, kN = 32, kK = 256;
  const double work = 2.0 * kM * kN * kK;
  std::vector<std::vector<float>> a(size_t(threads), std::vector<float>(kM * kK, 1.0f)),
      b(size_t(threads), std::vector<float>(kN * kK, 1.0f)), c(size_t(threads), std::vector<float>(kM * kN));
  result.f32_gflops = rate(pool, seconds,
                           [&](int i) {
                             for (int r = 0; r < 64; r++)
                               kernels().gemm_f32({a[size_t(i)].data(), kK, 1, b[size_t(i)].data(), kK * 16, 16, c[size_t(i)].data(), kN,
                                                   kM, kN, kK, 1, false});
                           }) *
                      64 * work / 1e9;
  result.bf16_gflops = rate(pool, seconds,
                            [&](int i) {
                              const float* x = a[size_t(i)].data();
                              const uint32_t* w = reinterpret_cast<const uint32_t*>(b[size_t(i)].data());
                              for (int r = 0; r < 64; r++)
                                kernels().gemm_bf16({x, kK / 2, w, kK / 2 * 16, c[size_t(i)].data(), kN, kM, kN, kK / 2, false});
                            }) *
                       64 * work / 1e9;
  const IntPanelLayout layout{32, 4, false, 8, nullptr};
  std::vector<PanelMemory> panels, scratch;
  for (int i = 0; i < threads; i++) {
    panels.emplace_back(size_t(kN / 16 * kK / 32 * layout.group_bytes()));
    scratch.emplace_back(size_t(2 * (kK * 16 + kK / 32 * 128)));
    std::memset(panels.back().get(), 0x11, panels.back().bytes());
  }
  std::vector<int8_t> x(kM * kK, 1);
  std::vector<float> ones(kM * kK / 16, 1.0f);
  result.int8_gops = rate(pool, seconds,
                          [&](int i) {
                            for (int r = 0; r < 64; r++)
                              kernels().gemm_int8({layout, panels[size_t(i)].get(), ones.data(), x.data(), ones.data(), ones.data(),
                                                   c[size_t(i)].data(), kN, kM, kK, 0, kN / 16, kN, scratch[size_t(i)].get()});
                          }) *
                     64 * work / 1e9;
  return result;
}

}  // namespace fettle
