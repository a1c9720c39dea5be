// Weighted search: each block gets the codes that minimise the squared error weighted by its inputs' importance.
#include "compress/compress.h"

namespace fettle {

extern const Method method_weighted = {"weighted", "minimise each block's error weighted by importance", true,
                                       [](const Format& format, const float* weights, void* blocks, int64_t n, const float* importance) {
                                         format.encode(weights, blocks, n, importance);
                                       }};

}  // namespace fettle
