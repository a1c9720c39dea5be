// What the kernel files of one instruction set share. Included by *.kernel.cc only.
#pragma once
#include "op/kernels.h"
#include "simd/simd.h"

namespace fettle::FETTLE_KERNELS {

void gemm_f32(const GemmF32& g);
void gemm_half(const GemmHalf& g);
void gemm_bf16(const GemmBf16& g);
void gemm_int8(const GemmInt8& g);

}  // namespace fettle::FETTLE_KERNELS
