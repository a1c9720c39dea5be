// Every format of the registry: decoding against the reference implementation, unpacking against decoding, and the quality of encoding
// against the reference's on the same weights (tests/golden/make_format_golden.py).
#include "format/format.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/base.h"

namespace fettle {
namespace {

constexpr int kRows = 16, kColumns = 2048;

struct Golden {
  std::vector<uint8_t> blocks;
  std::string sha256, first;
};
struct Quality {
  double plain[2], weighted[2];  // of Gaussian rows, of heavy-tailed rows
};

std::vector<uint8_t> from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes.push_back(uint8_t(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

struct GoldenFile {
  std::map<std::string, Golden> decode;
  std::map<std::string, Quality> quality;
  GoldenFile() {
    std::ifstream file(std::string(FETTLE_SOURCE_DIR) + "/tests/golden/formats.txt");
    for (std::string line; std::getline(file, line);) {
      std::istringstream in(line);
      std::string kind, name, hex;
      in >> kind >> name;
      if (kind == "decode") {
        Golden& g = decode[name];
        in >> hex >> g.sha256 >> g.first;
        g.blocks = from_hex(hex);
      } else if (kind == "quality") {
        Quality& q = quality[name];
        in >> q.plain[0] >> q.plain[1] >> q.weighted[0] >> q.weighted[1];
      }
    }
  }
};
const GoldenFile& golden() {
  static const GoldenFile file;
  return file;
}

// The script's numbers in [0, 1).
struct Uniforms {
  uint64_t state;
  double operator()() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return double(state >> 40) / 16777216.0;
  }
};

// The script's weights: nearly Gaussian rows, then heavy-tailed ones.
std::vector<float> sample_weights() {
  std::vector<float> x;
  Uniforms u{1};
  for (int r = 0; r < kRows; r++)
    for (int c = 0; c < kColumns; c++) {
      double v[5];
      for (double& each : v) each = u();
      double sum = (v[0] + v[1]) + (v[2] + v[3]) - 2.0;
      if (r >= kRows / 2) sum /= 0.05 + v[4];
      x.push_back(float(sum * 0.03125));
    }
  return x;
}
std::vector<float> sample_importance() {
  std::vector<float> w;
  Uniforms u{2};
  for (int c = 0; c < kColumns; c++) w.push_back(float(1.0 / (0.01 + u())));
  return w;
}

std::vector<float> decode(const Format& f, const void* blocks, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  f.decode(blocks, x.data(), n);
  return x;
}
// What is left of x after encoding it row by row.
std::vector<float> through(const Format& f, const std::vector<float>& x, const float* importance, int columns = kColumns) {
  std::vector<uint8_t> blocks(size_t(f.bytes_for(columns)));
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); i += size_t(columns)) {
    f.encode(x.data() + i, blocks.data(), columns, importance);
    f.decode(blocks.data(), y.data() + i, columns);
  }
  return y;
}

// Relative root of the (weighted) squared error of one half of the rows.
double relative_error(const std::vector<float>& x, const std::vector<float>& y, const std::vector<float>* importance, int half) {
  double error = 0, size = 0;
  for (size_t i = size_t(half) * x.size() / 2; i < size_t(half + 1) * x.size() / 2; i++) {
    const double w = importance ? double((*importance)[i % kColumns]) : 1, e = double(x[i]) - y[i];
    error += w * e * e;
    size += w * double(x[i]) * x[i];
  }
  return std::sqrt(error / size);
}

std::vector<const Format*> written() {
  std::vector<const Format*> list;
  for (const Format* f : formats())
    if (f->encode) list.push_back(f);
  return list;
}

TEST(Format, RegistryIsSortedAndEveryFormatIsFound) {
  std::set<int> ids;
  std::string before;
  for (const Format* f : formats()) {
    EXPECT_LT(before, f->name);
    before = f->name;
    EXPECT_EQ(find_format(f->name), f);
    if (f->gguf_id >= 0) {
      EXPECT_TRUE(ids.insert(f->gguf_id).second) << f->name;
    }
    EXPECT_EQ(find_format(f->gguf_id), f->gguf_id >= 0 ? f : nullptr) << "no file names a format that only memory has";
    EXPECT_TRUE(f->gguf_id >= 0 || !f->encode) << f->name << " would be chosen for a file";
    EXPECT_EQ(f->bytes_for(4 * f->block), 4 * f->block_bytes);
    EXPECT_EQ(f->group == 0, f->unpack == nullptr) << f->name;
    EXPECT_TRUE(f->group == 0 || f->group == 16 || f->group == 32) << f->name;
  }
  EXPECT_EQ(find_format("q4_k"), find_format("Q4_K"));
  EXPECT_EQ(find_format("Q9_Z"), nullptr);
  EXPECT_EQ(find_format(9999), nullptr);
}

TEST(Format, HalvesAndBfloatsSurviveTheRoundTrip) {
  for (int bits = 0; bits < 65536; bits++) {
    const float h = float_from_half(uint16_t(bits)), b = float_from_bfloat(uint16_t(bits));
    if (h == h) {
      ASSERT_EQ(half_from_float(h), bits);
    }
    if (b == b) {
      ASSERT_EQ(bfloat_from_float(b), bits);
    }
  }
  EXPECT_EQ(half_from_float(1 + 0x1p-11f), half_from_float(1)) << "ties go to even";
  EXPECT_EQ(half_from_float(65519), 0x7bff);
  EXPECT_EQ(half_from_float(65520), 0x7c00);
}

TEST(Format, DecodesExactlyAsTheReference) {
  int checked = 0;
  for (const Format* f : formats()) {
    if (std::string(f->name) == "F32") continue;
    ASSERT_TRUE(golden().decode.count(f->name)) << f->name << " has no row in tests/golden/formats.txt";
    const Golden& g = golden().decode.at(f->name);
    const int64_t n = int64_t(g.blocks.size()) / f->block_bytes * f->block;
    const std::vector<float> x = decode(*f, g.blocks.data(), n);
    const std::vector<uint8_t> first = from_hex(g.first);
    EXPECT_EQ(std::memcmp(x.data(), first.data(), first.size()), 0) << f->name << ": first is " << x[0];
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(x))), g.sha256) << f->name;
    checked++;
  }
  EXPECT_GE(checked, 24);
}

TEST(Format, UnpackedCodesStandForTheDecodedWeights) {
  for (const Format* f : formats()) {
    if (!f->unpack) continue;
    const Golden& g = golden().decode.at(f->name);
    const int64_t n = int64_t(g.blocks.size()) / f->block_bytes * f->block;
    const std::vector<float> x = decode(*f, g.blocks.data(), n);
    std::vector<uint8_t> codes(static_cast<size_t>(n));
    std::vector<float> scales(size_t(n / f->group)), mins(size_t(n / f->group));
    f->unpack(g.blocks.data(), n, codes.data(), scales.data(), mins.data());
    for (int64_t i = 0; i < n; i++) {
      const size_t at = size_t(i), group = size_t(i / f->group);
      ASSERT_LT(codes[at], f->codes) << f->name;
      const double value = f->table ? f->table[codes[at]] : codes[at];
      const double rounded = f->rounded_table ? 0.5 * std::fabs(double(scales[group])) : 0;
      ASSERT_NEAR(scales[group] * value + mins[group], x[at], 1e-6 * (std::fabs(scales[group] * value) + std::fabs(mins[group])) + rounded)
          << f->name << " weight " << i;
    }
  }
}

TEST(Format, CodesCanBeReplacedAndScalesStay) {
  Random random(8);
  for (const Format* f : formats()) {
    EXPECT_TRUE(f->recode || !f->unpack || !f->encode) << f->name << " is written, so that methods choose its codes";
    if (!f->recode) continue;
    const std::vector<uint8_t> before = golden().decode.at(f->name).blocks;
    const int64_t n = int64_t(before.size()) / f->block_bytes * f->block;
    std::vector<uint8_t> blocks = before, codes(static_cast<size_t>(n)), again(codes);
    std::vector<float> scales(size_t(n / f->group)), mins(scales), same_scales(scales), same_mins(scales);
    f->unpack(blocks.data(), n, codes.data(), scales.data(), mins.data());
    f->recode(blocks.data(), n, codes.data());
    if (std::has_single_bit(unsigned(f->codes))) {  // trits can be spelled in more than one way
      EXPECT_EQ(blocks, before) << f->name;
    }
    f->unpack(blocks.data(), n, again.data(), same_scales.data(), same_mins.data());
    EXPECT_EQ(again, codes) << f->name;
    for (uint8_t& c : codes) c = uint8_t(random.below(uint32_t(f->codes)));
    f->recode(blocks.data(), n, codes.data());
    f->unpack(blocks.data(), n, again.data(), same_scales.data(), same_mins.data());
    EXPECT_EQ(again, codes) << f->name;
    EXPECT_EQ(same_scales, scales) << f->name;
    EXPECT_EQ(same_mins, mins) << f->name;
    const std::vector<float> x = decode(*f, blocks.data(), n);
    for (size_t i = 0; i < x.size(); i++) {
      const size_t g = i / size_t(f->group);
      const double value = f->table ? f->table[codes[i]] : codes[i];
      const double rounded = f->rounded_table ? 0.5 * std::fabs(double(scales[g])) : 0;
      ASSERT_NEAR(x[i], scales[g] * value + mins[g], 1e-6 * (std::fabs(scales[g] * value) + std::fabs(mins[g])) + rounded) << f->name;
    }
  }
}

TEST(Format, EncodingIsAtLeastAsGoodAsTheReferences) {
  const std::vector<float> x = sample_weights(), importance = sample_importance();
  for (const Format* f : written()) {
    if (!f->unpack) continue;
    ASSERT_TRUE(golden().quality.count(f->name)) << f->name << " has no quality row in tests/golden/formats.txt";
    const Quality& q = golden().quality.at(f->name);
    const std::vector<float> plain = through(*f, x, nullptr), weighted = through(*f, x, importance.data());
    for (int half = 0; half < 2; half++) {
      EXPECT_LE(relative_error(x, plain, nullptr, half), q.plain[half]) << f->name << " rows " << half;
      EXPECT_LE(relative_error(x, weighted, &importance, half), q.weighted[half]) << f->name << " weighted, rows " << half;
    }
  }
}

TEST(Format, ImportanceBuysPrecisionWhereItPoints) {
  const std::vector<float> x = sample_weights();
  std::vector<float> importance(kColumns, 1.0f);
  for (int c = 0; c < kColumns; c += 4) importance[size_t(c)] = 100;
  for (const Format* f : written()) {
    if (!f->unpack || f->codes > 64) continue;
    const std::vector<float> without = through(*f, x, nullptr), with = through(*f, x, importance.data());
    const double limit = f->by_name ? 1 : 0.97;  // those have one scale for 256 weights, or only powers of two
    for (int half = 0; half < 2; half++)
      EXPECT_LT(relative_error(x, with, &importance, half), limit * relative_error(x, without, &importance, half)) << f->name;
  }
}

TEST(Format, WhatWasDecodedEncodesToNearlyItself) {
  const std::vector<float> x = sample_weights();
  for (const Format* f : written()) {
    const std::vector<float> once = through(*f, x, nullptr), twice = through(*f, once, nullptr);
    for (int half = 0; half < 2; half++) {
      const double first = relative_error(x, once, nullptr, half), again = relative_error(once, twice, nullptr, half);
      EXPECT_LE(again, 0.15 * first) << f->name << " rows " << half;
    }
  }
}

// Blocks of others' grids: as good as they can be among those that share a scale, and nothing of a block but its codes changes by recode().
TEST(Format, GridsOfCheckpointsHoldTheirCodes) {
  EXPECT_EQ(grid_format(5, 32, true), nullptr);
  EXPECT_EQ(grid_format(4, 16, true), nullptr);
  const std::vector<float> x = sample_weights();
  for (int bits : {2, 3, 4, 8})
    for (int group : {32, 64, 128})
      for (bool zeros : {false, true}) {
        const Format& f = *grid_format(bits, group, zeros);
        const std::vector<float> y = through(f, x, nullptr);
        const double error = relative_error(x, y, nullptr, 0);
        EXPECT_LT(error, bits == 2 ? 0.5 : bits == 3 ? 0.22 : bits == 4 ? 0.11 : 0.007) << bits << " bits, group " << group << zeros;
        EXPECT_LE(relative_error(y, through(f, y, nullptr), nullptr, 0), 0.15 * error);
        if (zeros) {
          EXPECT_LE(error, 1.02 * relative_error(x, through(*grid_format(bits, group, false), x, nullptr), nullptr, 0));
        }
        std::vector<uint8_t> blocks(size_t(f.bytes_for(kColumns))), codes(kColumns), again(kColumns);
        std::vector<float> scales(kColumns / 32), mins(scales), decoded(kColumns);
        f.encode(x.data(), blocks.data(), kColumns, nullptr);
        f.unpack(blocks.data(), kColumns, codes.data(), scales.data(), mins.data());
        for (uint8_t& c : codes) c = uint8_t((c + 1) % f.codes);
        f.recode(blocks.data(), kColumns, codes.data());
        f.unpack(blocks.data(), kColumns, again.data(), scales.data(), mins.data());
        EXPECT_EQ(again, codes);
        f.decode(blocks.data(), decoded.data(), kColumns);
        for (size_t i = 0; i < kColumns; i++) {
          const float zero = std::nearbyint(-mins[i / 32] / scales[i / 32]);
          ASSERT_EQ(decoded[i], scales[i / 32] * (float(codes[i]) - zero));
          ASSERT_GE(zero, 1);
          ASSERT_LT(zero, f.codes);
        }
      }
}

// What a model was trained to is kept: ternary weights to the last bit of a scale that f16 can hold, MXFP4's values altogether.
TEST(Format, WeightsOfTheFormatsThatModelsAreTrainedToAreKept) {
  Random random(4);
  std::vector<float> ternary, fours;
  for (int i = 0; i < 4096; i++) {
    const float values[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    ternary.push_back(float(int(random.below(3)) - 1) * 0.0123291015625f);
    fours.push_back(std::ldexp(values[random.below(8)] * (random.below(2) ? 1.0f : -1.0f), i / 32 - 90));
  }
  for (int i = 0; i < 4096; i += 32) fours[size_t(i)] = std::ldexp(6.0f, i / 32 - 90);  // the largest one shows in every block
  for (const char* name : {"TQ1_0", "TQ2_0"}) EXPECT_EQ(through(*find_format(name), ternary, nullptr), ternary) << name;
  EXPECT_EQ(through(*find_format("MXFP4"), fours, nullptr), fours);
}

TEST(Format, AnyInputGivesFiniteWeights) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN(),
                  kMost = std::numeric_limits<float>::max(), kLeast = std::numeric_limits<float>::denorm_min();
  Random random(3);
  for (const Format* f : written()) {
    if (!f->unpack) continue;
    for (const std::vector<float>& pool : {std::vector<float>{0.0f},
                                           {-0.0f},
                                           {1.0f},
                                           {-1.0f},
                                           {kMost},
                                           {-kMost, kMost},
                                           {kLeast, 0},
                                           {1e-20f, -1e-20f},
                                           {kNan, 1.0f},
                                           {kInfinity, -1.0f, 0.5f},
                                           {kNan},
                                           {1e5f, -3.0f, 7.0f},
                                           {1e-6f, 1.0f},
                                           {1e30f, 1e-30f}}) {
      std::vector<float> x(512), importance(512);
      for (float& v : x) v = pool[random.below(uint32_t(pool.size()))];
      for (float& v : importance) v = std::vector<float>{0, 1, 1e30f, kNan, kInfinity, -1}[random.below(6)];
      for (const float* weights : {static_cast<const float*>(nullptr), static_cast<const float*>(importance.data())}) {
        const std::vector<float> y = through(*f, x, weights, 512);
        for (size_t i = 0; i < y.size(); i++) {
          ASSERT_TRUE(std::isfinite(y[i])) << f->name << " from " << x[i];
          if (pool.size() == 1 && pool[0] == 0) {
            ASSERT_EQ(y[i], 0) << f->name;
          }
          if (pool.size() == 1 && std::fabs(pool[0]) == 1) {
            ASSERT_NEAR(y[i], x[i], 0.01) << f->name;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace fettle
