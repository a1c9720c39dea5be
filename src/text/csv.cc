// Comma-separated values, RFC 4180: fields in quotes may hold separators, line breaks and doubled quotes. Lenient where spreadsheets are:
// text after a closing quote belongs to the field, a quote inside a bare field is a character.
#include <array>

#include "text/record_stream.h"

namespace fettle {

int CsvReader::get() {
  int c = stream_.get();
  if (c == '\n') line_++;
  if (c >= 0) in_line_ = c != '\n';
  return c;
}

void CsvReader::put(CsvRow& row, std::string& field, int c) {
  if (++row.bytes > kMaxRecordBytes) row.too_long = true;
  if (!row.too_long) field.push_back(char(c));
}

// The separator that the first line holds most often outside quotes.
void CsvReader::find_separator() {
  std::array<size_t, 128> counts{};
  bool quoted = false;
  for (char c : stream_.rest()) {
    if (c == '"') quoted = !quoted;
    if (!quoted && (c == '\n' || c == '\r')) break;
    if (!quoted && (c == ',' || c == ';' || c == '\t')) counts[uint8_t(c)]++;
  }
  separator_ = ',';
  for (char c : {';', '\t'})
    if (counts[uint8_t(c)] > counts[uint8_t(separator_)]) separator_ = c;
}

// After the opening quote, up to and including the closing one.
void CsvReader::take_quoted(CsvRow& row, std::string& field) {
  for (int c; (c = get()) >= 0;) {
    if (c == '"') {
      if (stream_.peek() != '"') return;
      get();
    }
    put(row, field, c);
  }
  row.open_quote = true;
}

// last: what ended the field, -1 for the end of the file
void CsvReader::take_field(CsvRow& row, int& last) {
  std::string field;
  if (stream_.peek() == '"') {
    get();
    take_quoted(row, field);
  }
  while ((last = get()) >= 0 && last != separator_ && last != '\n') put(row, field, last);
  if (last == '\n' && field.ends_with('\r')) field.pop_back();
  constexpr size_t kMaxFields = 10000;
  if (row.fields.size() >= kMaxFields) row.too_long = true;
  if (row.too_long) {
    row.fields.clear();
  } else {
    row.fields.push_back(std::move(field));
  }
}

bool CsvReader::next(CsvRow& row) {
  if (!separator_) find_separator();
  for (;;) {
    row = CsvRow{};
    row.line = line_;
    if (stream_.peek() < 0) return false;
    int last;
    do take_field(row, last);
    while (last == separator_);
    row.lines = line_ - row.line + (last < 0 && in_line_);  // a last line without an end is one too
    bool blank = row.fields.size() == 1 && trim(row.fields[0]).empty();
    if (row.too_long || row.open_quote || !blank) return true;
  }
}

}  // namespace fettle
