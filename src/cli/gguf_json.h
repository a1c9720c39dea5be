// Private to cli: parts of a GGUF file as JSON.
#pragma once
#include "cli/cli.h"

namespace fettle {

Json shape_json(const Shape& shape);
Json tensor_json(const NamedTensor& tensor);  // {name, shape, type, bytes}
// Arrays longer than 16 become {"count", "first"} unless `full`.
Json metadata_json(const Gguf& file, bool full);

}  // namespace fettle
