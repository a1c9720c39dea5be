// Integer panels times rows, some multiplied as bytes and some in bf16: which, says what each row is (Batch::generated). Private to the
// room.
#pragma once
#include <span>

#include "op/linear.h"
#include "op/panels.h"

namespace fettle {

// The rows of a call's input: row r is x's row from[r]; nullptr: x's row r.
struct Source {
  const Var* x;
  const int* from;
  int rows;
};

// Rows by the integer panels of a weight.
struct IntProduct {
  const Panels* panels;
  RowRange rows;
  float* c;
};

// Of so many rows, those that are multiplied as bytes: the first ones.
int byte_rows(const Run& run, int rows);

// All products as few lists of tasks: one fork and join for q, k and v, or for all experts. Products of the same rows follow one another.
void multiply_integer(Run& run, const Source& source, std::span<const IntProduct> products);

}  // namespace fettle
