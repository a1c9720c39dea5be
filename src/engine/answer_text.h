// The text of a growing answer as it may be shown: whole UTF-8 characters, nothing of a stop string, and nothing that could still become
// one.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/text.h"

namespace fettle {

class AnswerText {
 public:
  // Empty stop strings stop nothing.
  explicit AnswerText(std::vector<std::string> stops) : stops_(std::move(stops)) { std::erase(stops_, std::string()); }
  // What may be shown now. After a stop string appeared (stopped()), nothing more comes.
  std::string push(std::string_view bytes) { return take(utf8_.push(bytes), false); }
  // What was held back; the answer is over.
  std::string finish() { return take(utf8_.finish(), true); }
  bool stopped() const { return stopped_; }

 private:
  std::string take(std::string text, bool last);
  std::vector<std::string> stops_;
  Utf8Stream utf8_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace fettle
