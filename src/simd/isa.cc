#include "simd/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>
#include <cstring>
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
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
#endif
  return isa == Isa::portable;
}

const std::vector<Isa>& found() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> v;
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
      if (runs_here(isa)) v.push_back(isa);
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
    default:
      return "portable";
  }
}

}  // namespace fettle
