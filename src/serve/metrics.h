// Counters for /metrics, in Prometheus' text format.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace fettle {

class Metrics {
 public:
  std::atomic<int> connections{0};
  std::atomic<uint64_t> disconnects{0};  // answers that ended because the client went away

  // route: the route's path, never what a client wrote.
  void finished(const std::string& route, unsigned status, double seconds);
  void first_token(double seconds);
  // The lines that belong to this object; ends with a newline.
  std::string text() const;

 private:
  struct Histogram {
    static constexpr std::array<double, 12> kBounds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60};
    std::array<uint64_t, kBounds.size() + 1> counts{};
    double sum = 0;
    void add(double seconds);
    std::string text(const std::string& name, const std::string& help) const;
  };
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, unsigned>, uint64_t> requests_;
  Histogram seconds_, first_token_;
};

}  // namespace fettle
