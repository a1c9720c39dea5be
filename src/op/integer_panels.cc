// Integer panels: a weight's codes repacked for gemm_int8, and what they are scaled by.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "op/panels.h"

namespace fettle {
namespace {

// One row of a weight, unpacked: value = scale * value(code) + min per group.
struct UnpackedRow {
  std::vector<uint8_t> codes;
  std::vector<float> scales, mins;  // of groups, then of the layout's units
  std::vector<int8_t> scale_factors, min_factors;
  std::vector<uint16_t> scale_halves, min_halves;
  UnpackedRow(int n, int group)
      : codes(size_t(n)),
        scales(size_t(n / group)),
        mins(scales.size()),
        scale_factors(scales.size()),
        min_factors(scales.size()),
        scale_halves(scales.size()),
        min_halves(scales.size()) {}

  void take(const Format& f, const uint8_t* blocks, const IntPanelLayout& layout) {
    f.unpack(blocks, int64_t(codes.size()), codes.data(), scales.data(), mins.data());
    if (!layout.super) return;
    const size_t units = codes.size() / size_t(IntPanelLayout::kSuper), groups = size_t(IntPanelLayout::kSuper / layout.group);
    for (size_t i = 0; i < units; i++, blocks += f.block_bytes) {
      divide(scales.data() + i * groups, groups, half_at(blocks + f.scale_at) / float(f.scale_parts), scale_factors.data() + i * groups);
      scales[i] = half_at(blocks + f.scale_at) / float(f.scale_parts);
      if (!layout.affine) continue;
      divide(mins.data() + i * groups, groups, half_at(blocks + f.min_at), min_factors.data() + i * groups);
      mins[i] = half_at(blocks + f.min_at);
    }
  }

  // What scales and mins are divided by so that f16 holds them: a lone scale itself (a row's f32 scale stays exact that way), else 2^e so
  // that the largest of `units` keeps f16's full precision (exact for what formats store as f16).
  float factor(size_t units, bool affine) const {
    float largest = 0;
    const bool lone = !affine && std::isnormal(scales[0]) &&
                      std::all_of(scales.begin(), scales.begin() + long(units), [&](float s) { return s == scales[0]; });
    if (lone) return scales[0];
    for (size_t i = 0; i < units; i++) largest = std::max({largest, std::fabs(scales[i]), affine ? std::fabs(mins[i]) : 0.0f});
    if (!(largest > 0) || !std::isfinite(largest)) return 1;
    return std::exp2(float(std::ilogb(largest) - 12));
  }

  // Scales and mins divided by the row's factor, as 16-bit floats.
  void round(float factor, size_t units, bool affine) {
    kernels().scale(1 / factor, int64_t(units), scales.data());
    kernels().to_half(scales.data(), int64_t(units), scale_halves.data());
    if (!affine) return;
    kernels().scale(1 / factor, int64_t(units), mins.data());
    kernels().to_half(mins.data(), int64_t(units), min_halves.data());
  }

 private:
  static float half_at(const uint8_t* p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    return float_from_half(half);
  }
  // Whole multiples of `unit`, as Format::scale_parts promises.
  static void divide(const float* values, size_t n, float unit, int8_t* factors) {
    for (size_t i = 0; i < n; i++)
      factors[i] = unit == 0 ? int8_t(0) : int8_t(std::clamp(std::nearbyint(values[i] / unit), -128.0f, 127.0f));
  }
};

struct IntPacker {
  const Tensor& w;
  const IntPanelLayout& layout;
  Panels& out;

  // The codes of one group of one row as dwords of 4 inputs, packed as the layout says; dword i goes to vector i of the group.
  // Returns how many.
  template <int Group, int Bits>
  static int pack(const uint8_t* c, uint32_t* dwords) {
    constexpr int kHalf = Group / 2, kSteps = Group / 4;
    uint8_t bytes[Group + Group / 2] = {};
    if constexpr (Bits == 8) {
      std::memcpy(dwords, c, Group);
      return kSteps;
    }
    for (int i = 0; i < kHalf; i++) bytes[i] = uint8_t((c[i] & 15) | c[i + kHalf] << 4);
    int used = kHalf;
    if constexpr (Bits == 5) {
      for (int i = 0; i < Group; i++) bytes[kHalf + i % 4] |= uint8_t((c[i] >> 4) << i / 4);
      used += 4;
    }
    if constexpr (Bits == 6) {
      for (int i = 0; i < Group; i++) bytes[kHalf + i / 16 * 4 + i % 4] |= uint8_t((c[i] >> 4) << i / 4 % 4 * 2);
      used += Group / 4;
    }
    std::memcpy(dwords, bytes, size_t(used));
    return used / 4;
  }

  template <int Group, int Bits>
  static void put_codes(const uint8_t* codes, uint8_t* to, int lane) {
    uint32_t dwords[Group / 4 + 4];
    const int count = pack<Group, Bits>(codes, dwords);
    for (int i = 0; i < count; i++) std::memcpy(to + i * 64 + lane * 4, dwords + i, 4);
  }

  template <int Group, int Bits>
  void lane(const UnpackedRow& row, uint8_t* to, int lane) const {
    const int groups = layout.unit() / Group, parts = layout.affine ? 2 : 1;
    for (size_t unit = 0; unit < size_t(out.inputs / layout.unit()); unit++) {
      const size_t first = unit * size_t(groups);
      for (size_t g = first; g < first + size_t(groups); g++, to += layout.code_bytes())
        put_codes<Group, Bits>(row.codes.data() + g * Group, to, lane);
      for (int part = 0; layout.super && part < parts; part++)
        for (size_t g = first; g < first + size_t(groups); g++, to += 16)
          to[lane] = uint8_t((part == 0 ? row.scale_factors : row.min_factors)[g]);
      for (int part = 0; part < parts; part++, to += 32)
        std::memcpy(to + lane * 2, &(part == 0 ? row.scale_halves : row.min_halves)[unit], 2);
    }
  }
  void lane(const UnpackedRow& row, uint8_t* to, int l) const {
    if (layout.bits == 8) return lane<32, 8>(row, to, l);
    if (layout.bits == 6) return lane<16, 6>(row, to, l);
    if (layout.bits == 5) return lane<32, 5>(row, to, l);
    return layout.group == 32 ? lane<32, 4>(row, to, l) : lane<16, 4>(row, to, l);
  }

  void panel(int p) const {
    UnpackedRow row(out.inputs, layout.group);
    uint8_t* to = out.memory.get() + p * out.panel_stride();
    if ((p + 1) * 16 > out.outputs) std::memset(to, 0, size_t(out.panel_stride()));
    for (int l = 0; l < 16; l++) {
      int64_t r = int64_t(p) * 16 + l;
      if (r >= out.outputs) break;
      row.take(*w.format, row_bytes(w, r), layout);
      const size_t units = size_t(out.inputs / layout.unit());
      const float factor = row.factor(units, layout.affine);
      out.row_factors[size_t(r)] = factor;
      row.round(factor, units, layout.affine);
      lane(row, to, l);
    }
  }
};

}  // namespace

// The narrowest layout that holds the format's codes and has a kernel (gemm_int8), 0: none.
static int panel_bits(const Format& f) {
  const bool wide = f.group == 32, symmetric = f.zero >= 0;
  if (f.table) return f.zero == 128 ? 4 : 0;
  if (f.codes <= 16) return 4;
  if (f.codes <= 32 && wide) return 5;
  if (f.codes <= 64 && !wide && symmetric) return 6;
  return f.codes == 256 && wide && f.zero == 128 ? 8 : 0;
}

bool has_integer_panels(const Tensor& w) { return w.format->unpack && panel_bits(*w.format) && w.shape.cols() % 32 == 0; }

IntPanelLayout integer_layout(const Format& f) {
  const bool affine = f.zero<0, super = f.scale_parts> 0;
  return {f.group, panel_bits(f), affine, std::max(f.zero, 0), f.table, super};
}

Panels make_integer_panels(const Tensor& w, Pool& pool, PanelSlab* slab) {
  Panels p;
  p.kind = Panels::integer;
  p.outputs = int(w.shape.rows());
  p.inputs = int(w.shape.cols());
  p.layout = integer_layout(*w.format);
  p.memory = PanelMemory(size_t(p.panels()) * size_t(p.panel_stride()), slab);
  p.row_factors = std::make_unique<float[]>(size_t(p.panels()) * 16);
  IntPacker packer{w, p.layout, p};
  pool.run(p.panels(), [&](int i) { packer.panel(i); });
  return p;
}

}  // namespace fettle
