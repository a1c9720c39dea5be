// Private to cli: tables of text on stdout, columns aligned by what a terminal shows.
#pragma once
#include <string>
#include <vector>

namespace fettle {

class Table {
 public:
  // A heading that ends in '>' aligns its column to the right: {"name", "size>"}.
  explicit Table(std::vector<std::string> headings);
  void row(std::vector<std::string> cells);
  // Writes it; nothing when there are no rows.
  void print() const;
  std::string text() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// "label   value" lines, labels aligned.
std::string pairs_text(const std::vector<std::pair<std::string, std::string>>& pairs);

// printf's idea of a number: "%.2f".
std::string number(const char* format, double value);
// 0.934 -> "93.4 %"
std::string percent(double share);
// `text` on one line, cut to `width` characters.
std::string one_line(const std::string& text, size_t width);

}  // namespace fettle
