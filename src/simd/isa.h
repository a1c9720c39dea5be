// Which instruction set the kernels use: the best that processor and operating system offer, or
// FETTLE_ISA=portable|avx2|avx512|avx512_bf16|amx|neon|neon_i8mm.
#pragma once
#include <span>

namespace fettle {

// avx512: with VNNI. avx512_bf16: the same with products of bf16 pairs; the better of the two where those are fast. amx: that with matrix
// tiles. neon: with dot products of bytes (ARMv8.2). neon_i8mm: with products of small matrices of bytes, and of bf16 pairs (ARMv8.6).
enum class Isa { portable, avx2, avx512, avx512_bf16, amx, neon, neon_i8mm };

// Sets built into this program that this machine can run, weakest first.
std::span<const Isa> available_isas();
Isa current_isa();
// For tests: every kernel call from now on uses `isa` (must be available).
void set_isa(Isa isa);
const char* isa_name(Isa isa);

}  // namespace fettle
