// Room format: what weight codes mean. One file per block format; the folder is the registry (CMake lists it). A format is a value: its
// encode, its decode, and how its blocks unpack into the codes that the shared matrix kernels eat.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace fettle {

struct Format {
  const char* name;  // GGUF's name: "Q4_1"
  int gguf_id;       // ggml_type; -1: fettle's own, in memory alone (what folders hold and GGUF has no type for)
  int file_type;     // general.file_type of a file mostly of this format (llama_ftype), -1 when there is none
  int block;         // weights per block; a row's length must be a multiple
  int block_bytes;
  // How unpack() groups weights under one scale: 16 or 32. 0: a float format (F32 F16 BF16), which has no unpack.
  int group;
  int codes;  // how many there are, 0 first: 3 to 64, or 256; 0 in float formats
  // The value that stands for 0 in symmetric formats (every min is -zero * scale; 128 when codes or values fill a byte), -1: formats with
  // mins.
  int zero;
  // Values that codes stand for, where they are at most 16 (16 entries; IQ4_NL), nullptr: codes stand for themselves.
  const uint8_t* table;
  // Where in a block its 16-bit scale and min lie, which the scales and mins of all its groups are multiples of; -1: there is none.
  int scale_at, min_at;
  // Every group's scale is a whole number, -128 to 127, of parts of that block scale, so many to one, and its min of the block's min; 0: it
  // is not, or groups are blocks.
  int scale_parts = 0;
  // Models are trained to it, and others lose more than its size is worth: taken where it is asked for by name, never chosen.
  bool by_name = false;
  // `table` holds roundings of what codes stand for, no further off than half: unpack() gives weights within half a scale of decode()'s.
  bool rounded_table = false;

  // blocks -> n float weights; n is a multiple of `block`.
  void (*decode)(const void* blocks, float* weights, int64_t n) noexcept;
  // n float weights -> blocks, minimising the squared error weighted by importance[n] (E[x^2] per input column; nullptr: format's own
  // default weighting). nullptr: fettle reads this format but does not write it. `weights` may hold any finite values.
  void (*encode)(const float* weights, void* blocks, int64_t n, const float* importance) noexcept;
  // blocks -> codes[n], scales[n/group], mins[n/group]: weight = scale * value(code) + min, value(code) = table ? table[code] : code.
  // Exact: the float expression equals decode() to float rounding, but for a rounded table.
  void (*unpack)(const void* blocks, int64_t n, uint8_t* codes, float* scales, float* mins) noexcept;
  // The inverse for codes alone: codes[n], as unpack() gives them, into blocks whose scales stay. A method that chooses codes on a grid of
  // scales therefore needs to know no format. nullptr: a float format, or one that cannot store just any codes.
  void (*recode)(void* blocks, int64_t n, const uint8_t* codes) noexcept;

  int64_t bytes_for(int64_t n) const { return n / block * block_bytes; }
  double bits_per_weight() const { return 8.0 * block_bytes / block; }
};

// All formats, alphabetical by name.
std::span<const Format* const> formats();
const Format* find_format(std::string_view name);  // case-insensitive; nullptr when unknown
const Format* find_format(int gguf_id);            // nullptr for numbers that no file has
// Formats of GPTQ and AWQ checkpoints, for those who write them: scale * (code - zero), codes of so many bits, one scale and one zero to a
// group of weights; zeros: each group has its own, else it is the middle of the codes. In no registry. nullptr: bits are not 2, 3, 4 or 8,
// or the group is not 32, 64 or 128.
const Format* grid_format(int bits, int group, bool zeros);

// Shared conversions (IEEE round to nearest even), the same on every machine.
uint16_t half_from_float(float x) noexcept;
float float_from_half(uint16_t h) noexcept;
uint16_t bfloat_from_float(float x) noexcept;
float float_from_bfloat(uint16_t b) noexcept;

}  // namespace fettle
