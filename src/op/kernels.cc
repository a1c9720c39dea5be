#include "op/kernels.h"

#include "simd/isa.h"

namespace fettle {

#if defined(__x86_64__)
static Kernels with_tiles(Kernels table) {
  table.pair_rows = 16;
  table.pair_cost = 1;
  table.gemm_bf16 = kernels_amx::gemm_bf16;
  table.begin_bf16 = kernels_amx::begin_bf16;
  table.end_bf16 = kernels_amx::end_bf16;
  table.codes_to_pairs = kernels_amx::codes_to_pairs;
  table.peak = kernels_amx::peak;
  return table;
}
#endif

const Kernels& kernels() {
#if defined(__x86_64__)
  switch (current_isa()) {
    case Isa::avx512:
      return kernels_avx512::table;
    case Isa::avx512_bf16:
      return kernels_avx512_bf16::table;
    case Isa::amx: {
      static const Kernels table = with_tiles(kernels_avx512_bf16::table);
      return table;
    }
    case Isa::avx2:
      return kernels_avx2::table;
    default:
      break;
  }
#elif defined(__aarch64__)
  if (current_isa() == Isa::neon_i8mm) return kernels_neon_i8mm::table;
  if (current_isa() == Isa::neon) return kernels_neon::table;
#endif
  return kernels_portable::table;
}

}  // namespace fettle
