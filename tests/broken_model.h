// A model file with one weight that is no number, in the middle of a matrix: it opens, and what it computes is wrong. For tests only.
#pragma once
#include <cstring>
#include <limits>

#include "store/store.h"

namespace fettle {

// Copies the model of F32 weights `from` to `to`, but for one number of the tensor `name`.
inline void write_broken(const fs::path& from, const fs::path& to, const std::string& name) {
  const Gguf whole(from);
  const std::span<const std::byte> was = whole.tensor(name).bytes;
  std::vector<std::byte> bytes(was.begin(), was.end());
  const float bad = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + 400, &bad, sizeof bad);
  GgufWriter writer;
  writer.copy_metadata(whole);
  for (const NamedTensor& t : whole.tensors())
    writer.add(t.name, t.tensor.format, t.tensor.shape,
               [&]() -> std::span<const std::byte> { return t.name == name ? bytes : t.tensor.bytes; });
  writer.write(to);
}

}  // namespace fettle
