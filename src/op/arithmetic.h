// What products of matrices are made of. A machine has a rate for each kind (op/probe.h).
#pragma once

namespace fettle {

enum class Arithmetic { f32, bf16, int8 };

}  // namespace fettle
