#include "engine/answer_text.h"

#include <algorithm>

namespace fettle {
namespace {

// Length of the longest end of `text` that is a proper beginning of `stop`.
size_t overlap(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; n--) {
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

std::string AnswerText::take(std::string text, bool last) {
  if (stopped_) return {};
  if (stops_.empty()) return text;
  held_ += text;
  size_t cut = std::string::npos, keep = 0;
  for (const std::string& stop : stops_) {
    cut = std::min(cut, held_.find(stop));
    if (!last) keep = std::max(keep, overlap(held_, stop));
  }
  stopped_ = cut != std::string::npos;
  std::string shown = held_.substr(0, stopped_ ? cut : held_.size() - keep);
  held_.erase(0, shown.size());
  return shown;
}

}  // namespace fettle
