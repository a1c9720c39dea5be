#include "op/kv_page.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "op/kernels.h"

namespace fettle {
namespace {

constexpr int kPage = KvCache::kPage, kPanel = 16, kMostDims = 1024;
static_assert(kPage == kByteSteps);

bool in_bytes(const Format* element) { return element->block > 1; }
bool in_halves(const Format* element) { return element->block_bytes == 2; }
int blocks_of(int head_dim) { return (head_dim + 31) / 32; }

constexpr IntPanelLayout kKeys = {.group = 32, .bits = 8, .affine = false, .zero = 128, .table = nullptr, .super = false};

// x (head_dim) with zeros behind it up to whole blocks.
const float* whole_blocks(const float* x, int head_dim, float* room) {
  if (head_dim % 32 == 0) return x;
  std::memcpy(room, x, size_t(head_dim) * 4);
  std::fill(room + head_dim, room + blocks_of(head_dim) * 32, 0.0f);
  return room;
}

// The bytes of a value's scales lie behind all codes.
uint16_t* value_scales(const KvPage& page) {
  return reinterpret_cast<uint16_t*>(static_cast<int8_t*>(page.v) + int64_t(kPage) * blocks_of(page.head_dim) * 32);
}

void write_key_bytes(const KvPage& page, int slot, const float* key) {
  float room[kMostDims];
  int8_t codes[kMostDims];
  uint16_t scales[kMostDims / 32];
  const int blocks = blocks_of(page.head_dim);
  kernels().to_bytes(whole_blocks(key, page.head_dim, room), blocks * 32, codes, scales);
  uint8_t* group = static_cast<uint8_t*>(page.k) + slot / kPanel * blocks * kKeys.panel_bytes(kKeys.group);
  const int lane = slot % kPanel;
  for (int b = 0; b < blocks; b++, group += kKeys.panel_bytes(kKeys.group)) {
    for (int step = 0; step < 8; step++) {
      uint32_t four;
      std::memcpy(&four, codes + b * 32 + step * 4, 4);
      four ^= 0x80808080u;  // signed to unsigned with 128 for zero
      std::memcpy(group + (step * kPanel + lane) * 4, &four, 4);
    }
    std::memcpy(group + kKeys.code_bytes() + lane * 2, scales + b, 2);
  }
}

void write_value_bytes(const KvPage& page, int slot, const float* value) {
  float room[kMostDims];
  uint16_t scales[kMostDims / 32];
  const int blocks = blocks_of(page.head_dim);
  kernels().to_bytes(whole_blocks(value, page.head_dim, room), blocks * 32, static_cast<int8_t*>(page.v) + slot * blocks * 32, scales);
  for (int b = 0; b < blocks; b++) value_scales(page)[b * kPage + slot] = scales[b];
}

// A product with keys or values that are not in bytes, whichever type they are.
void page_product(const Format* element, GemmF32 g, const void* side) {
  if (in_halves(element)) {
    kernels().gemm_half({g.a, g.a_row, g.a_step, static_cast<const uint16_t*>(side), g.b_panel, g.b_step, g.c, g.c_row, g.m, g.n, g.k,
                         g.alpha, g.accumulate});
  } else {
    g.b = static_cast<const float*>(side);
    kernels().gemm_f32(g);
  }
}

}  // namespace

void KvPage::write(int slot, const float* key, const float* value) const {
  const int d = head_dim;
  const int64_t lane = int64_t(slot / kPanel) * d * kPanel + slot % kPanel;
  if (in_bytes(element)) {
    write_key_bytes(*this, slot, key);
    write_value_bytes(*this, slot, value);
  } else if (in_halves(element)) {
    uint16_t halves[kMostDims];
    kernels().to_half(key, d, halves);
    for (int j = 0; j < d; j++) static_cast<uint16_t*>(k)[lane + j * kPanel] = halves[j];
    kernels().to_half(value, d, static_cast<uint16_t*>(v) + slot * d);
  } else {
    for (int j = 0; j < d; j++) static_cast<float*>(k)[lane + j * kPanel] = key[j];
    std::memcpy(static_cast<float*>(v) + slot * d, value, size_t(d) * 4);
  }
}

void KvPage::add_values(const float* p, int rows, int width, float* out) const {
  const int d = head_dim;
  if (in_bytes(element)) {
    kernels().gemm_bytes({p, kPage, static_cast<const int8_t*>(v), blocks_of(d) * 32, value_scales(*this), out, d, rows, d, width});
  } else {
    page_product(element, {p, kPage, 1, nullptr, kPanel, d, out, d, rows, d, width, 1.0f, true}, v);
  }
}

struct PageQueries::Codes {
  std::vector<int8_t> x;               // (rows, blocks * 32)
  std::vector<float> scales, offsets;  // (blocks, rows)
  std::vector<int32_t> sums, starts;   // (2 * blocks, rows), (blocks, rows)
  float factors[kPage];                // scale

  void fill(const float* q, int rows, int head_dim, float scale) {
    const int blocks = blocks_of(head_dim), dims = blocks * 32;
    const size_t count = size_t(rows) * size_t(blocks);
    if (scales.size() < count) {
      x.resize(count * 32), scales.resize(count), offsets.resize(count);
      sums.resize(2 * count), starts.resize(count);
    }
    float room[kMostDims];
    for (int64_t r = 0; r < rows; r++)
      kernels().quantize_row(whole_blocks(q + r * head_dim, head_dim, room), dims, x.data() + r * dims, rows, scales.data() + r,
                             offsets.data() + r, sums.data() + r);
    for (int b = 0; b < blocks; b++)
      for (int r = 0; r < rows; r++)
        starts[size_t(b * rows + r)] = kSumStart - kKeys.zero * (sums[size_t(2 * b * rows + r)] + sums[size_t((2 * b + 1) * rows + r)]);
    std::fill(factors, factors + kPage, scale);
  }
};

PageQueries::PageQueries(const Format* element, const float* q, int rows, int head_dim, float scale)
    : q_(q), rows_(rows), head_dim_(head_dim), scale_(scale) {
  if (!in_bytes(element)) return;
  thread_local Codes codes;
  codes.fill(q, rows, head_dim, scale);
  codes_ = &codes;
}

void PageQueries::scores(const KvPage& page, int width, float* out) const {
  const int d = head_dim_;
  if (!codes_)
    return page_product(page.element, {q_, d, 1, nullptr, int64_t(d) * kPanel, kPanel, out, kPage, rows_, width, d, scale_, false}, page.k);
  const Codes& c = *codes_;
  kernels().gemm_int8({kKeys, static_cast<const uint8_t*>(page.k), c.factors, c.x.data(), c.scales.data(), c.offsets.data(), nullptr,
                       c.starts.data(), rows_, out, kPage, rows_, blocks_of(d) * 32, 0, (width + kPanel - 1) / kPanel, width, nullptr});
}

}  // namespace fettle
