// The registry of methods: the files in method/, listed by CMake.
#include <optional>

#include "compress/compress.h"

namespace fettle {

#define X(stem) extern const Method method_##stem;
#include "methods.inc"
#undef X

std::span<const Method* const> methods() {
  static const Method* const all[] = {
#define X(stem) &method_##stem,
#include "methods.inc"
#undef X
  };
  return all;
}

void encode_each(const Encoding& e, const float* weights, int rows, std::byte* blocks, const float* importance) {
  for (int r = 0; r < rows; r++) e.format.encode(weights + r * e.cols, blocks + r * e.format.bytes_for(e.cols), e.cols, importance);
}

const Method& find_method(const std::string& name) {
  std::vector<std::string> names;
  for (const Method* m : methods()) {
    if (name == m->name) return *m;
    names.push_back(m->name);
  }
  const std::optional<std::string> near = did_you_mean(name, names);
  std::string known;
  for (const std::string& n : names) known += (known.empty() ? "" : ", ") + n;
  throw usage("there is no method '" + name + "'" + (near ? "; did you mean '" + *near + "'?" : ""), "the methods are " + known);
}

}  // namespace fettle
