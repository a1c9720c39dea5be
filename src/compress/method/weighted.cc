// Weighted search: each block gets the codes that minimise the squared error weighted by its inputs' importance.
#include "compress/compress.h"

namespace fettle {

extern const Method method_weighted = {
    "weighted", "minimise each block's error weighted by importance", true, false,
    [](const Encoding& e, const float* weights, int rows, std::byte* blocks) { encode_each(e, weights, rows, blocks, e.importance); }};

}  // namespace fettle
