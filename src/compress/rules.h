// Which type a tensor gets when a file is asked for by name. A mix is a base format and the usual exceptions: values and the way down keep
// more bits in some layers, the output more than all (llama.cpp's rules, so that a name means here what it means elsewhere). Names, not
// formats: what this build cannot write, or what does not divide a row, is substituted by fitting(). Private to the room.
#pragma once
#include <string>

#include "compress/compress.h"

namespace fettle {

// What the rules look at in a file.
struct Anatomy {
  int layers = 0, heads_per_kv = 1, experts = 0;
  bool tied = false;        // no output.weight: the embedding is the output
  bool importance = false;  // measured importance is at hand
};
Anatomy anatomy_of(const Gguf& file, bool importance);

// Whether a tensor takes part: matrices, but for norms, routers, tables of positions.
bool quantizable(const NamedTensor& tensor);

struct Mix {
  std::string name, base;  // "Q4_K_M", "Q4_K"; "same", "": every tensor keeps its format
  int file_type = -1;
};
// Error{usage} with a suggestion for names that are neither format nor mix.
Mix find_mix(const std::string& type);
std::string wanted_type(const Mix& mix, const std::string& tensor, const Anatomy& anatomy);

// A format that this build writes and that divides rows of `cols`: `wanted` itself, else the best one of blocks of 32, else F16.
// Error{usage} for names that no format ever had.
const Format* fitting(const std::string& wanted, int64_t cols);
const Format* writable(const std::string& name);  // nullptr
// What a file keeps a tensor of this format as: F16 for formats that only memory has, else the format itself.
const Format* kept_format(const Format* format);

}  // namespace fettle
