#include "simd/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
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

#if defined(__x86_64__)
// Tiles with products of bf16 and of bytes. The system keeps their state for those who ask (Linux 5.16: arch_prctl(ARCH_REQ_XCOMP_PERM,
// XFEATURE_XTILEDATA)); a thread made earlier or later has it too.
bool has_tiles() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kAll = kBf16 | kTile | kInt8;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kAll) == kAll && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
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
  if (isa == Isa::amx) return runs_here(Isa::avx512_bf16) && __builtin_cpu_supports("avx512vbmi") && has_tiles();
#elif defined(__aarch64__)
  if (isa == Isa::neon) return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
  if (isa == Isa::neon_i8mm) {
    constexpr unsigned long kAll = HWCAP2_I8MM | HWCAP2_BF16;
    return runs_here(Isa::neon) && (getauxval(AT_HWCAP2) & kAll) == kAll;
  }
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
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::neon, Isa::neon_i8mm})
      if (runs_here(isa)) v.push_back(isa);
    if (v.back() == Isa::avx512_bf16 && !fast_pairs()) std::swap(v[v.size() - 1], v[v.size() - 2]);
    if (runs_here(Isa::amx)) v.push_back(Isa::amx);
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
    case Isa::amx:
      return "amx";
    case Isa::neon:
      return "neon";
    case Isa::neon_i8mm:
      return "neon_i8mm";
    default:
      return "portable";
  }
}

}  // namespace fettle
