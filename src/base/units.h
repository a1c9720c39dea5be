// Numbers as people write them: sizes (90MB = 90e6, 90MiB = 90 * 2^20), times (2h, 90s, 5ms), percentages; and back.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

std::optional<uint64_t> parse_bytes(std::string_view text);
std::optional<double> parse_seconds(std::string_view text);
std::string format_bytes(double bytes);      // "98.4 MB"
std::string format_seconds(double seconds);  // "1 h 04 min", "12.3 s", "5 ms"
std::string format_count(double n);          // "12.3 k"
std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);
std::string lower(std::string_view text);
std::string shell_quoted(const std::string& word);  // as a shell reads it back
// The candidate nearest to `word` by edit distance, if near enough to be a slip.
std::optional<std::string> did_you_mean(std::string_view word, const std::vector<std::string>& candidates);
// Peak resident bytes of this process, from the kernel.
uint64_t peak_rss_bytes();
double now_seconds();                      // monotonic
std::string utc_timestamp();               // 2026-11-24T15:04:05Z
std::string http_date(int64_t unix_time);  // "Sun, 06 Nov 1994 08:49:37 GMT"

}  // namespace fettle
