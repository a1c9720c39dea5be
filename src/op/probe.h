// What this machine can do, measured: the limits that `bench` sets results against.
#pragma once
#include "base/base.h"
#include "op/arithmetic.h"

namespace fettle {

struct MachineProbe {
  double read_gbps = 0;   // reading memory far larger than the caches, all threads
  double f32_gflops = 0;  // multiply-adds in registers, all threads; each counts as two
  double bf16_gflops = 0;
  double int8_gops = 0;
  double gops(Arithmetic kind) const { return kind == Arithmetic::f32 ? f32_gflops : kind == Arithmetic::bf16 ? bf16_gflops : int8_gops; }
};
// seconds: how long each of the four measurements takes.
MachineProbe probe_machine(Pool& pool, double seconds);

}  // namespace fettle
