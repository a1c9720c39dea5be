#include "engine/guess_plan.h"

#include <algorithm>
#include <cmath>

namespace fettle {
namespace {

constexpr double kRowCost = 0.1;  // of a pass of one row, for each row more: until it is measured
constexpr double kWorth = 1.05;   // how much faster it must get

}  // namespace

void PassTimes::add(int rows, double seconds) {
  if (rows < 1 || rows > kRows) return;
  Row& row = rows_[size_t(rows - 1)];
  row.seconds[size_t(row.next)] = seconds;
  row.next = (row.next + 1) % kKept;
  row.count = std::min(row.count + 1, kKept);
  std::array<double, kKept> sorted = row.seconds;
  std::nth_element(sorted.begin(), sorted.begin() + (row.count - 1) / 2, sorted.begin() + row.count);
  row.median = sorted[size_t(row.count - 1) / 2];
}

int PassTimes::seen(int rows) const { return rows < 1 || rows > kRows ? 0 : rows_[size_t(rows - 1)].count; }

double PassTimes::at(int rows) const {
  int nearest = 0;
  for (int i = 1; i <= kRows; i++) {
    if (seen(i) > 0 && (nearest == 0 || std::abs(i - rows) < std::abs(nearest - rows))) nearest = i;
  }
  if (nearest == 0) return 0;
  return rows_[size_t(nearest - 1)].median * (1 + kRowCost * (rows - 1)) / (1 + kRowCost * (nearest - 1));
}

double PassTimes::of(double rows) const {
  const int below = int(rows);
  const double part = rows - below;
  return part > 0 ? at(below) * (1 - part) + at(below + 1) * part : at(below);
}

void GuessRates::add(const GuessRates& seen, double window) {
  const double fade = std::max(0.0, 1 - seen.total() / window);
  right = right * fade + seen.right;
  wrong = wrong * fade + seen.wrong;
  unsure = unsure * fade + seen.unsure;
}

int best_guesses(const GuessRates& rates, int sequences, int most, const PassTimes& target, const PassTimes& draft) {
  const double right = rates.right / rates.total(), sure = 1 - rates.unsure / rates.total();
  const double plain = target.of(sequences), pass = draft.of(sequences);
  int best = 0;
  double best_gain = kWorth;
  // Of k passes: the chance that the next one is run, that its guess is offered, that it and all before it are right.
  double run = 1, passes = 0, guesses = 0, chance = 1, tokens = 1;
  for (int k = 1; k <= most; k++) {
    passes += run;
    run *= sure;
    guesses += run;
    chance *= right;
    tokens += chance;
    const double gain = tokens * plain / (target.of(sequences * (1 + guesses)) + passes * pass);
    if (gain > best_gain) {
      best_gain = gain;
      best = k;
    }
  }
  return best;
}

}  // namespace fettle
