// The arithmetic limit of one core: multiply-adds whose operands never leave registers, as many at once as the products keep.
#include "op/kernel/gemm.h"

namespace fettle::FETTLE_KERNELS {
namespace {

int64_t peak_int8(int64_t rounds) {
  constexpr int kBits = 4, kSteps = 8, kSums = kIntRows<kBits> / kUnitRows * kIntPanels;
  UnitSum<kBits> sum[kSums];
  unroll<0, kSums>([&](auto r) { sum[r.value] = unit_begin<kBits>(0, 0); });
  uint8_t ones[64];
  std::memset(ones, 1, sizeof ones);
  B codes = b_load(ones);
  static constexpr int8_t kInputs[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const UnitX x = unit_x(kInputs, kInputs);
  for (int64_t i = 0; i < rounds; i++) {
    pin(codes);
    const Factor<kBits> f = factor<kBits>(codes);
    unroll<0, kSteps>([&](auto s) { unroll<0, kSums>([&](auto r) { unit_add<kBits, s.value, kSteps>(sum[r.value], f, x); }); });
    unroll<0, kSums>([&](auto r) { pin(sum[r.value]); });
  }
  return rounds * kSteps * kSums * kUnitRows * 128;
}

int64_t peak_f32(int64_t rounds) {
  constexpr int kSums = kRows * kPanels;
  F sum[kSums], x = f_set1(0.5f);
  unroll<0, kSums>([&](auto r) { sum[r.value] = f_zero(); });
  for (int64_t i = 0; i < rounds; i++) {
    pin(x);
    unroll<0, kSums>([&](auto r) { sum[r.value] = f_fma(x, x, sum[r.value]); });
    unroll<0, kSums>([&](auto r) { pin(sum[r.value]); });
  }
  return rounds * kSums * 32;
}

int64_t peak_bf16(int64_t rounds) {
  constexpr int kSums = kPairRows * kPanels;
  F sum[kSums];
  unroll<0, kSums>([&](auto r) { sum[r.value] = f_zero(); });
  uint32_t words[16] = {};
  Pair pair{};
  for (int64_t i = 0; i < rounds; i++) {
    unroll<0, kBf16Parts>([&](auto part) {
      auto w = bf16_load<part.value>(words);
      pin(w);
      unroll<0, kSums>([&](auto r) { sum[r.value] = bf16_step<part.value>(sum[r.value], w, pair); });
    });
    unroll<0, kSums>([&](auto r) { pin(sum[r.value]); });
  }
  return rounds * kSums * 64;
}

}  // namespace

int64_t peak(Arithmetic kind, int64_t rounds) {
  if (kind == Arithmetic::int8) return peak_int8(rounds);
  return kind == Arithmetic::bf16 ? peak_bf16(rounds) : peak_f32(rounds);
}

}  // namespace fettle::FETTLE_KERNELS
