// What the ways to pack weights share: the tensors of one module, and whole numbers under scales as blocks of a format. Private to store.
#pragma once
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/json_text.h"
#include "format/format.h"
#include "store/packed.h"

namespace fettle {

using RawTensors = std::map<std::string, const RawTensor*>;

// The tensors of one module by what follows its name, and complaints about them.
class ModuleParts {
 public:
  ModuleParts(const RawTensors& tensors, const std::string& module, const std::string& folder)
      : tensors_(tensors), module_(module), place_(folder + ": " + printable(module)) {}
  const std::string& module() const { return module_; }
  const std::string& place() const { return place_; }
  const RawTensor* find(const std::string& part) const;
  // Of one of these dtypes, not empty, and where `shape` is given of that shape (-1: any). Error{refused}.
  const RawTensor& get(const std::string& part, std::initializer_list<std::string_view> dtypes, std::initializer_list<int64_t> shape) const;
  // A tensor of floats (F16, BF16 or F32) as f32. Error{refused} where one is not finite.
  std::vector<float> floats(const RawTensor& tensor) const;
  // The numbers of an I32 or I64 tensor.
  std::vector<int64_t> integers(const RawTensor& tensor) const;
  [[noreturn]] void fail(const std::string& what, const std::string& hint = {}) const { throw refused(place_, what, hint); }

 private:
  const RawTensors& tensors_;
  std::string module_, place_;
};

// One way to pack weights, with what the configuration says.
class Packing {
 public:
  virtual ~Packing() = default;
  // What follows a module's name in the tensors that say its weight is packed, and in all that belong to such a weight.
  virtual std::vector<std::string> markers() const = 0;
  virtual std::vector<std::string> parts() const = 0;
  virtual OwnedTensor weight(const ModuleParts& module) const = 0;
};
std::unique_ptr<Packing> gptq_packing(const nlohmann::json& config, const std::string& place);
std::unique_ptr<Packing> awq_packing(const nlohmann::json& config, const std::string& place);
std::unique_ptr<Packing> bitsandbytes_packing(const nlohmann::json& config, const std::string& place);
std::unique_ptr<Packing> compressed_tensors_packing(const nlohmann::json& config, const std::string& place);

// Weights that are whole numbers under scales: weight = scale(row, group of the column) * value(row, column).
struct IntegerWeights {
  int64_t rows = 0, cols = 0, groups = 0;
  int least = 0, most = 0;         // no value lies outside
  std::vector<int32_t> group_of;   // (cols)
  std::vector<float> scales;       // (rows, groups)
  const Format* stored = nullptr;  // what scales are stored in, and what the reference multiplies in
  // Values of rows [first, first + n): (n, cols).
  std::function<void(int64_t first, int64_t n, int16_t* values)> values;
};
// Q4_0, Q5_0, Q8_0 or Q8_F32, whichever is the smallest that holds values and scales exactly; products rounded to `stored` where none does:
// groups that do not agree with blocks of 32 (GPTQ's act-order), or values that need more than 8 bits.
OwnedTensor blocks_of(const IntegerWeights& weights);

// group_of of groups of `size` columns each, the last one perhaps short.
std::vector<int32_t> even_groups(int64_t cols, int64_t size);

// (cols, rows) of (rows, cols)
std::vector<float> transposed(const std::vector<float>& matrix, int64_t rows, int64_t cols);

// Entry i of little-endian words at `bytes`, which may lie anywhere.
inline uint32_t word_at(const std::byte* bytes, int64_t i) {
  uint32_t word;
  std::memcpy(&word, bytes + 4 * i, 4);
  return word;
}
// Number i of `bits` bits in a stream of words, `stride` words apart; one may lie in two words.
inline uint32_t bits_at(const std::byte* words, int64_t stride, int64_t i, int bits) {
  const int64_t at = i * bits, word = at / 32;
  const int shift = int(at % 32);
  uint64_t both = word_at(words, word * stride);
  if (shift + bits > 32) both |= uint64_t(word_at(words, (word + 1) * stride)) << 32;
  return uint32_t(both >> shift) & ((1u << bits) - 1);
}

// Puts it there; the bits were 0.
inline void put_bits(uint32_t* words, int64_t stride, int64_t i, int bits, uint32_t value) {
  const int64_t at = i * bits, word = at / 32;
  const int shift = int(at % 32);
  words[word * stride] |= value << shift;
  if (shift + bits > 32) words[(word + 1) * stride] |= value >> (32 - shift);
}

// Where in a word of AWQ's the code of output 8 i + j lies.
constexpr int kAwqPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};

// A whole number of the configuration under the first of `keys` that it has; nullopt: it has none, or null. Error{refused}.
std::optional<int64_t> config_integer(const nlohmann::json& config, std::initializer_list<const char*> keys, const std::string& place);
// The same for text, in small letters.
std::optional<std::string> config_text(const nlohmann::json& config, std::initializer_list<const char*> keys, const std::string& place);

}  // namespace fettle
