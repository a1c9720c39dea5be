#include "cli/table.h"

#include <algorithm>
#include <cstdio>

#include "base/base.h"

namespace fettle {
namespace {

// Characters, not bytes; wide East Asian ones count as one, which is wrong only for alignment.
size_t width_of(const std::string& text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

Table::Table(std::vector<std::string> headings) {
  for (std::string& h : headings) {
    right_.push_back(h.ends_with('>'));
    if (right_.back()) h.pop_back();
  }
  rows_.push_back(std::move(headings));
}

void Table::row(std::vector<std::string> cells) {
  cells.resize(right_.size());
  for (std::string& cell : cells) cell = harmless(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  if (rows_.size() < 2) return {};
  std::vector<size_t> widths(right_.size());
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); i++) widths[i] = std::max(widths[i], width_of(row[i]));
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); i++) {
      std::string pad(widths[i] - width_of(row[i]), ' ');
      line += (i ? "  " : "") + (right_[i] ? pad + row[i] : row[i] + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

void Table::print() const { std::fputs(text().c_str(), stdout); }

std::string pairs_text(const std::vector<std::pair<std::string, std::string>>& pairs) {
  size_t width = 0;
  for (const auto& [label, value] : pairs) width = std::max(width, width_of(label));
  std::string out;
  for (const auto& [label, value] : pairs) out += label + std::string(width - width_of(label) + 2, ' ') + harmless(value) + "\n";
  return out;
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string percent(double share) { return number("%.1f %%", 100 * share); }

std::string one_line(const std::string& text, size_t width) {
  std::string out;
  size_t shown = 0;
  for (size_t i = 0; i < text.size();) {
    size_t end = i + 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) end++;
    if (++shown > width) return out + "…";
    unsigned char c = static_cast<unsigned char>(text[i]);
    if (c == '\n')
      out += "⏎";
    else if (c < 32 || c == 127)
      out += ' ';
    else
      out.append(text, i, end - i);
    i = end;
  }
  return out;
}

}  // namespace fettle
