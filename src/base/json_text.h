// JSON from outside (configurations, hub answers): parsed with a limit on depth, errors with place and byte. Not in base.h, because the
// library is large.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fettle {

// Error{refused} when the text is no JSON, not UTF-8 or nested deeper than 64.
nlohmann::json parse_json(std::string_view text, const std::string& place);
// Text from outside, fit for an error message: no control characters, at most `limit` bytes.
std::string printable(std::string_view text, size_t limit = 120);

}  // namespace fettle
