// Matrix tiles of Intel's AMX: eight registers of up to 16 rows by 64 bytes, and products of two of them added to a third. Compiled for the
// instruction set amx only. GCC and clang agree on no intrinsics that keep the order of tile and memory accesses, so these are the
// instructions themselves; T, C, A and B are register numbers.
#pragma once
#include <cstdint>
#include <cstring>

namespace fettle::FETTLE_KERNELS {

constexpr int kTileRows = 16, kTileBytes = 64;

// What shape each register has, as `ldtilecfg` reads it (Intel's manual, volume 1, chapter 18).
struct TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};  // of a row
  uint8_t rows[16] = {};
  void set(int tile, int tile_rows, int row_bytes) {
    rows[tile] = uint8_t(tile_rows);
    bytes[tile] = uint16_t(row_bytes);
  }
};
static_assert(sizeof(TileShapes) == 64);

inline void tiles_shape(const TileShapes& shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes) : "memory"); }  // zeroes all registers
inline void tiles_release() { asm volatile("tilerelease" ::: "memory"); }

template <int T>
inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}
// stride: bytes between rows in memory.
template <int T>
inline void tile_load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
inline void tile_store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}
// c[row][lane] += sum over pairs p and both elements of a[row][p] * b[p][lane], bf16 to f32.
template <int C, int A, int B>
inline void tile_add_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}
// Tiles of bytes (tdpbssd) are left out: products of blocks of 32 under one scale do not pay, as each such sum has to leave its tile to be
// scaled, and tile instructions do not run beside vector ones (measured on Sapphire Rapids: 27 to 31 ns for 16 x 16 x 32, 33 ns without
// tiles).

}  // namespace fettle::FETTLE_KERNELS
