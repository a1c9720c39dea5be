// Whether guesses pay, and how many: what passes take, as measured, against how often guesses are right.
#pragma once
#include <array>

namespace fettle {

// How long passes of one model take by their number of rows: the median of the last few, so that a pass that was disturbed does not count.
class PassTimes {
 public:
  void add(int rows, double seconds);
  // Seconds of a pass of `rows` rows, which may lie between two numbers; of rows that were not seen, from those nearest. 0: none was seen.
  double of(double rows) const;
  // Passes of `rows` rows that were seen, as far as they count.
  int seen(int rows) const;

 private:
  static constexpr int kRows = 16, kKept = 7;
  double at(int rows) const;
  struct Row {
    std::array<double, kKept> seconds;
    int next = 0, count = 0;
    double median = 0;
  };
  std::array<Row, kRows> rows_;
};

// What became of a draft's passes: the token was right, or wrong, or too unlikely to the draft itself to be offered.
struct GuessRates {
  double right = 0, wrong = 0, unsure = 0;
  double total() const { return right + wrong + unsure; }
  // The same shares, of so many passes.
  GuessRates scaled(double passes) const { return {right * passes / total(), wrong * passes / total(), unsure * passes / total()}; }
  // Adds what was seen; what came before fades, so that about `window` passes count.
  void add(const GuessRates& seen, double window);
};

// How many guesses per sequence, at most `most`, make `sequences` sequences come along fastest; 0: guessing does not pay. target, draft:
// passes of both models.
int best_guesses(const GuessRates& rates, int sequences, int most, const PassTimes& target, const PassTimes& draft);

}  // namespace fettle
