// Private to pipeline: what the report draws.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/pipeline.h"

namespace fettle {

// Text as HTML shows it: & < > " ' are escaped, broken UTF-8 and control characters replaced.
std::string html(std::string_view text);
// The same, which may be broken behind underscores: labels of data are long.
std::string breakable(std::string_view text);
std::string fixed(double value, int digits);

// Inline SVG. Colours are CSS variables of the page, so that light and dark need no second drawing.
std::string loss_chart(const Json& curve);                     // [{step, loss, eval_loss?}]
std::string size_chart(const Json& table, double size_limit);  // fit's table; size_limit 0: none
std::string confusion_table(const Json& confusion);

}  // namespace fettle
