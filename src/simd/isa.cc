#include "simd/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace fettle {
namespace {

#if defined(__x86_64__)
// clang 16 knows no word for it. That the system saves the wide registers is what __builtin_cpu_supports("avx2") has asked already.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool runs_here(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (isa == Isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (isa == Isa::avx512_bf16) return runs_here(Isa::avx512) && __builtin_cpu_supports("avx512bf16");
#endif
  return isa == Isa::portable;
}

// Whether vdpbf16ps takes no longer than an f32 product: 64 operations in the time of 32 on Zen 4; on Sapphire Rapids it takes four times
// as long (measured: 196 Gop/s against 398), so that widening bf16 to f32 is twice as fast there.
bool fast_pairs() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

const std::vector<Isa>& found() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> v;
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
      if (runs_here(isa)) v.push_back(isa);
    if (v.back() == Isa::avx512_bf16 && !fast_pairs()) std::swap(v[v.size() - 1], v[v.size() - 2]);
    return v;
  }();
  return isas;
}

// The one mutable global that the house rules allow: which kernels run.
std::atomic<Isa>& chosen() {
  static std::atomic<Isa> isa = [] {
    if (const char* name = std::getenv("FETTLE_ISA"))
      for (Isa i : found())
        if (!std::strcmp(name, isa_name(i))) return i;
    return found().back();
  }();
  return isa;
}

}  // namespace

std::span<const Isa> available_isas() { return found(); }
Isa current_isa() { return chosen().load(std::memory_order_relaxed); }
void set_isa(Isa isa) { chosen() = isa; }

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    default:
      return "portable";
  }
}

}  // namespace fettle
