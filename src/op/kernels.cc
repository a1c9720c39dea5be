#include "op/kernels.h"

#include "simd/isa.h"

namespace fettle {

const Kernels& kernels() {
#if defined(__x86_64__)
  switch (current_isa()) {
    case Isa::avx512:
      return kernels_avx512::table;
    case Isa::avx512_bf16:
      return kernels_avx512_bf16::table;
    case Isa::avx2:
      return kernels_avx2::table;
    default:
      break;
  }
#endif
  return kernels_portable::table;
}

}  // namespace fettle
