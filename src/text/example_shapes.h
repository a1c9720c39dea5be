// Private to text: one JSON object or CSV row -> one conversation, whatever shape it came in.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/dataset.h"

namespace fettle {

// Why a row cannot be used; caught by the reader, which knows file and row.
struct RowError {
  std::string kind, message;
};

struct RowReading {
  Example example;
  std::string shape;
  std::vector<RowError> warnings;  // the row is used all the same
};

// Throws RowError.
RowReading read_json_row(const nlohmann::json& row);
// What every conversation must be: a question, then the assistant's answer, in an order that can be trained on. Throws RowError. Turns
// after the last answer are cut off, with a warning.
void finish_conversation(RowReading& reading);

}  // namespace fettle
