// Near-duplicates by MinHash and banding (Broder 1997; Indyk and Motwani 1998). A text's set of shingles is first cut down to its smallest
// hashes, from which the similarity of two texts follows by one merge; 80 minima over these, 5 to a band, sort alike texts into the same
// buckets, and only texts that share a bucket are compared.
#include "text/similar.h"

#include <algorithm>
#include <bit>

#include "base/base.h"
#include "text/unicode.h"

namespace fettle {
namespace {

constexpr size_t kMinima = Sketches::kBands * Sketches::kBandRows, kMaxRepresentatives = 32;

uint64_t mix(uint64_t x) {  // the finalizer of SplitMix64
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
  return x ^ x >> 31;
}

// The family x -> factor * x + offset mod 2^32, after a good hash has made x.
struct Family {
  std::array<uint32_t, kMinima> factor, offset;
  Family() {
    Random random(1);
    for (uint32_t& f : factor) f = random.next() | 1;
    for (uint32_t& o : offset) o = random.next();
  }
};

std::vector<uint32_t> smallest_hashes(std::string_view text) {
  std::vector<uint32_t> characters, hashes;
  for (; !text.empty(); text.remove_prefix(decode_character(text).n_bytes)) characters.push_back(decode_character(text).value);
  size_t width = std::min(Sketches::kShingle, characters.size());
  for (size_t i = 0; width && i + width <= characters.size(); i++) {
    uint64_t h = width;
    for (size_t j = 0; j < width; j++) h = mix(h * 0x9e3779b97f4a7c15ULL + characters[i + j]);
    hashes.push_back(uint32_t(h >> 32));
  }
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
  if (hashes.size() > Sketches::kKept) hashes.resize(Sketches::kKept);
  return hashes;
}

enum Part : uint8_t { kFound = 1, kAsks = 2 };

class Search {
 public:
  Search(const Sketches& sketches, std::vector<uint8_t> parts, double threshold)
      : sketches_(sketches), parts_(std::move(parts)), threshold_(threshold), nearest_(sketches.size()) {}

  std::vector<SimilarPair> run() {
    for (size_t band = 0; band < Sketches::kBands; band++) run_band(band);
    std::vector<SimilarPair> pairs;
    for (uint32_t b = 0; b < nearest_.size(); b++)
      if (nearest_[b].similarity > 0) pairs.push_back({nearest_[b].text, b, nearest_[b].similarity});
    return pairs;
  }

 private:
  struct Nearest {
    uint32_t text = 0;
    double similarity = 0;
  };

  void run_band(size_t band) {
    stop_if_interrupted();
    std::vector<uint64_t> entries;  // bucket, then those that only ask behind the others, then text
    for (uint32_t i = 0; i < parts_.size(); i++)
      if (parts_[i]) entries.push_back(uint64_t(sketches_.band(i, band)) << 32 | uint64_t(parts_[i] == kAsks) << 31 | i);
    std::sort(entries.begin(), entries.end());
    for (size_t i = 0; i < entries.size(); i++) {
      if (i == 0 || entries[i] >> 32 != entries[i - 1] >> 32) representatives_.clear();
      visit(uint32_t(entries[i]) & 0x7fffffffu);
    }
  }

  void visit(uint32_t text) {
    bool alike = false;
    if (parts_[text] & kAsks) {
      Nearest& nearest = nearest_[text];
      for (uint32_t other : representatives_) {
        if (nearest.similarity > 0 && nearest.text == other) {
          alike = true;
          continue;
        }
        double s = sketches_.similarity(other, text);
        if (s < threshold_) continue;
        alike = true;
        if (s > nearest.similarity || (s == nearest.similarity && other < nearest.text)) nearest = {other, s};
      }
    }
    if (!alike && (parts_[text] & kFound) && representatives_.size() < kMaxRepresentatives) representatives_.push_back(text);
  }

  const Sketches& sketches_;
  std::vector<uint8_t> parts_;
  double threshold_;
  std::vector<Nearest> nearest_;
  std::vector<uint32_t> representatives_;
};

}  // namespace

void Sketches::add(std::string_view text) {
  static const Family family;
  CHECK(bands_.size() < 0x7fffffffu);
  std::vector<uint32_t> sketch = smallest_hashes(text);
  std::array<uint32_t, kMinima> minima;
  minima.fill(UINT32_MAX);
  for (uint32_t h : sketch)
    for (size_t i = 0; i < kMinima; i++) minima[i] = std::min(minima[i], h * family.factor[i] + family.offset[i]);
  std::array<uint32_t, kBands> bands;
  for (size_t b = 0; b < kBands; b++) {
    uint64_t h = 0;
    for (size_t r = 0; r < kBandRows; r++) h = mix(h * 0x9e3779b97f4a7c15ULL + minima[b * kBandRows + r]);
    bands[b] = uint32_t(h >> 32);
  }
  bands_.push_back(bands);
  hashes_.insert(hashes_.end(), sketch.begin(), sketch.end());
  ends_.push_back(hashes_.size());
}

// The smallest hashes of a union are among the smallest of its parts, and one that both sets hold is in both sketches.
double Sketches::similarity(size_t a, size_t b) const {
  auto start = [&](size_t text) { return hashes_.data() + (text ? ends_[text - 1] : 0); };
  const uint32_t *p = start(a), *p_end = hashes_.data() + ends_[a], *q = start(b), *q_end = hashes_.data() + ends_[b];
  size_t both = 0, any = 0;
  for (; any < kKept && (p < p_end || q < q_end); any++) {
    bool take_p = q == q_end || (p < p_end && *p <= *q), take_q = p == p_end || (q < q_end && *q <= *p);
    both += take_p && take_q;
    p += take_p;
    q += take_q;
  }
  return any ? double(both) / double(any) : 1;
}

std::vector<SimilarPair> similar_pairs(const Sketches& sketches, double threshold) {
  return Search(sketches, std::vector<uint8_t>(sketches.size(), kFound | kAsks), threshold).run();
}

std::vector<SimilarPair> similar_pairs(const Sketches& sketches, const std::vector<uint32_t>& first, const std::vector<uint32_t>& second,
                                       double threshold) {
  std::vector<uint8_t> parts(sketches.size());
  for (uint32_t text : first) parts[text] = kFound;
  for (uint32_t text : second) parts[text] = kAsks;
  return Search(sketches, std::move(parts), threshold).run();
}

}  // namespace fettle
