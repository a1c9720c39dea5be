// Rounding: each block gets the codes that its format finds best for the weights alone.
#include "compress/compress.h"

namespace fettle {

extern const Method method_rtn = {
    "rtn", "round each block by itself; importance is not looked at", false, false,
    [](const Encoding& e, const float* weights, int rows, std::byte* blocks) { encode_each(e, weights, rows, blocks, nullptr); }};

}  // namespace fettle
