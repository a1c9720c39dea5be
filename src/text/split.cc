// The split: a row's side is a toss of a coin whose outcome is the hash of its question and the seed. So a row keeps its side when the file
// is sorted anew, when rows come or go, and on every machine; whoever adds examples next month cannot train on yesterday's test. The price:
// the share held out is met on average, not to the row.
#include <algorithm>

#include "base/base.h"
#include "text/dataset.h"
#include "text/row_text.h"

namespace fettle {
namespace {

// Moves every row of one question, that of the smallest or greatest key, to an empty side.
void fill_empty_side(const std::vector<uint64_t>& keys, uint64_t key, std::vector<size_t>& from, std::vector<size_t>& to) {
  if (std::all_of(keys.begin(), keys.end(), [&](uint64_t k) { return k == key; })) return;  // one question only: it cannot be on both sides
  auto stays = [&](size_t row) { return keys[row] != key; };
  auto moved = std::stable_partition(from.begin(), from.end(), stays);
  to.assign(moved, from.end());
  from.erase(moved, from.end());
}

}  // namespace

Split split_dataset(const Dataset& data, double held_out_fraction, uint64_t seed) {
  if (!(held_out_fraction > 0 && held_out_fraction < 1)) throw usage("the share to hold out must lie between 0 and 1, e.g. 0.1");
  std::vector<uint64_t> keys;
  keys.reserve(data.examples.size());
  Split split;
  for (const Example& example : data.examples) {
    if (keys.size() % 1024 == 0) stop_if_interrupted();
    keys.push_back(split_key(example, seed));
    bool held_out = double(keys.back() >> 11) * 0x1p-53 < held_out_fraction;
    (held_out ? split.held_out : split.train).push_back(keys.size() - 1);
  }
  if (keys.empty()) return split;
  auto [least, greatest] = std::minmax_element(keys.begin(), keys.end());
  if (split.held_out.empty()) {
    fill_empty_side(keys, *least, split.train, split.held_out);
  } else if (split.train.empty()) {
    fill_empty_side(keys, *greatest, split.held_out, split.train);
  }
  return split;
}

}  // namespace fettle
