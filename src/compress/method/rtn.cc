// Rounding: each block gets the codes that its format finds best for the weights alone.
#include "compress/compress.h"

namespace fettle {

extern const Method method_rtn = {
    "rtn", "round each block by itself; importance is not looked at", false,
    [](const Format& format, const float* weights, void* blocks, int64_t n, const float*) { format.encode(weights, blocks, n, nullptr); }};

}  // namespace fettle
