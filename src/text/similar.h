// Private to text: which texts of many are nearly alike, in time that grows with their number and not with its square.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace fettle {

// Texts as sets of shingles (5 characters in a row), each set kept as its 256 smallest hashes.
class Sketches {
 public:
  static constexpr size_t kShingle = 5, kKept = 256, kBands = 16, kBandRows = 5;
  void add(std::string_view text);
  size_t size() const { return bands_.size(); }
  // Jaccard similarity of the shingle sets: exact when they have no more than kKept members together, else an estimate (standard error
  // 0.025 at 0.8).
  double similarity(size_t a, size_t b) const;
  // Texts whose similarity is s share at least one of their bands with probability 1 - (1 - s^5)^16: 0.998 at 0.8, 0.04 at 0.3.
  uint32_t band(size_t text, size_t band) const { return bands_[text][band]; }

 private:
  std::vector<uint32_t> hashes_;  // all sketches after each other, each ascending
  std::vector<size_t> ends_;
  std::vector<std::array<uint32_t, kBands>> bands_;
};

struct SimilarPair {
  uint32_t a, b;
  double similarity;
};
// For each text its nearest one before it, where that is at least `threshold` alike. Of texts that are all alike the first stands for the
// others. Looks at no more than 32 such representatives in a band, so a text may be missed among very many half-alike ones.
std::vector<SimilarPair> similar_pairs(const Sketches& sketches, double threshold);
// For each text of the second list the nearest one of the first.
std::vector<SimilarPair> similar_pairs(const Sketches& sketches, const std::vector<uint32_t>& first, const std::vector<uint32_t>& second,
                                       double threshold);

}  // namespace fettle
