// What the kernel files of one instruction set share. Included by *.kernel.cc only.
#pragma once
#include "op/kernels.h"
#include "simd/simd.h"

namespace fettle::FETTLE_KERNELS {

// body(Index<0>) ... body(Index<N - 1>), so that shifts are constants and arrays live in
// registers: an index that only a later pass of the compiler unrolls leaves them in memory.
template <int I>
struct Index {
  static constexpr int value = I;
};
template <int I, int N, class Body>
[[gnu::always_inline]] inline void unroll(Body&& body) {
  if constexpr (I < N) {
    body(Index<I>{});
    unroll<I + 1, N>(body);
  }
}

void gemm_f32(const GemmF32& g);
void gemm_half(const GemmHalf& g);
void gemm_bytes(const GemmBytes& g);
void gemm_bf16(const GemmBf16& g);
void gemm_int8(const GemmInt8& g);
int64_t peak(Arithmetic kind, int64_t rounds);

}  // namespace fettle::FETTLE_KERNELS
