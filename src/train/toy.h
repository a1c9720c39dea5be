// Rows and options that tests of the room share. For tests only.
#pragma once
#include <vector>

#include "../tests/tiny_model.h"
#include "train/train.h"

namespace fettle {

// "Repeat the letter": rows of unequal length whose last two tokens follow from their first.
inline std::vector<TokenRow> toy_rows(int n, uint64_t seed = 5) {
  Random random(seed);
  std::vector<TokenRow> rows;
  for (int i = 0; i < n; i++) {
    TokenRow row;
    row.row = i;
    const int letter = 64 + int(random.below(6)), length = 4 + int(random.below(9));
    row.ids.push_back(letter);
    for (int j = 1; j < length; j++) row.ids.push_back(10 + int(random.below(30)));
    row.labels.assign(row.ids.size(), -100);
    for (int id : {letter, TinyModel::kEnd}) {
      row.ids.push_back(id);
      row.labels.push_back(id);
    }
    rows.push_back(row);
  }
  return rows;
}

inline TrainOptions toy_options() {
  TrainOptions o;
  o.rank = 4;
  o.alpha = 8;
  o.lr = 5e-3;
  o.precision = Precision::exact;
  o.batch = 4;
  o.threads = 1;
  o.schedule = "constant";
  o.warmup = 0;
  o.checkpoint_every = 3;
  return o;
}

}  // namespace fettle
