// Private to base: stderr as a screen with at most one live line at its end.
#pragma once
#include <string_view>

namespace fettle {

// A whole line, above the live one if there is one.
void print_line(std::string_view line);
// Replaces the live line; clipped to the terminal's width.
void print_live(std::string_view line);
// Takes the live line away.
void clear_live();
// Whether the terminal shows more than ASCII.
bool shows_unicode();

}  // namespace fettle
