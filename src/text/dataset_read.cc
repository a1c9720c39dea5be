// Reading data sets: opens files and folders, tells the kinds of files apart, turns every broken row into a problem that names it, and goes
// on. Memory is bounded by the accepted rows: a file of one huge line, or of ten million broken ones, costs no more than a small one.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/base.h"
#include "text/dataset.h"
#include "text/example_shapes.h"
#include "text/record_stream.h"

namespace fettle {
namespace {

using Json = nlohmann::json;
constexpr size_t kMaxProblems = 10000;  // more are counted (rows - examples), not kept
constexpr int kMaxDepth = 64;

// CSV columns as the user named them; empty: found by their names.
struct Columns {
  std::string text, label, system;
};

struct Source {
  fs::path path;
  Columns columns;
};

class Reader {
 public:
  Reader(const Source& source, Dataset& data, Sha256& digest)
      : columns_(source.columns), path_(source.path), file_(source.path.string()), data_(data), stream_(source.path, digest) {}
  void read();

 private:
  void read_lines();
  void read_values();
  void read_csv();
  void read_record(const Record& record, const std::string& where);
  void accept(RowReading&& reading, int64_t row);
  void problem(int64_t row, std::string kind, std::string message, bool fatal = true);
  void note_fatal(int64_t row, const RowError& error, const std::string& where = {}) { problem(row, error.kind, where + error.message); }

  Columns columns_;
  fs::path path_;
  std::string file_, shape_;
  Dataset& data_;
  ByteStream stream_;
};

void Reader::problem(int64_t row, std::string kind, std::string message, bool fatal) {
  size_t limit = fatal ? kMaxProblems : kMaxProblems / 2;  // warnings must not crowd out errors
  if (data_.problems.size() < limit) data_.problems.push_back({file_, row, std::move(kind), std::move(message), fatal});
}

void Reader::accept(RowReading&& reading, int64_t row) {
  for (RowError& warning : reading.warnings) problem(row, std::move(warning.kind), std::move(warning.message), false);
  if (shape_.empty()) shape_ = reading.shape;
  if (data_.shape.empty()) data_.shape = reading.shape;
  if (reading.shape != data_.shape)
    problem(row, "mixed-shape", "row has the shape \"" + reading.shape + "\", the data set began as \"" + data_.shape + "\"", false);
  reading.example.file = file_;
  reading.example.row = row;
  data_.examples.push_back(std::move(reading.example));
}

std::string size_of(uint64_t bytes) { return format_bytes(double(bytes)); }

// Depth of brackets outside strings, so that a row of a million brackets never reaches the parser.
int depth_of(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); i++) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') i++;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') deepest = std::max(deepest, ++depth);
    if (c == '}' || c == ']') depth--;
  }
  return deepest;
}

// 1-based byte of the first broken character
size_t broken_byte(std::string_view text) {
  size_t good = 0, length = text.size();
  while (length) {  // the longest valid start, by halves; a character that is cut makes at most three bytes of difference
    size_t half = (length + 1) / 2, end = good + half;
    while (end < text.size() && end > good && (text[end] & 0xC0) == 0x80) end--;
    if (end > good && valid_utf8(text.substr(good, end - good))) {
      length -= end - good;
      good = end;
    } else if (half == 1 || end == good) {
      break;
    } else {
      length = half - 1;
    }
  }
  return good + 1;
}

// Rebuilds the parser's report around the place in the file.
RowError json_problem(const Json::parse_error& error, const Record& record) {
  std::string what = error.what();
  if (size_t at = what.find(": ", what.find("parse error at")); at != what.npos) what = what.substr(at + 2);
  if (size_t at = what.find("; last read: "); at != what.npos && what.size() > at + 100) what.resize(at);
  if (size_t cut = what.find("; last read: "); cut != what.npos && what.find_first_of("\r\n", cut) != what.npos) what.resize(cut);
  size_t end = std::min(error.byte ? error.byte - 1 : 0, record.text.size());
  std::string_view before = std::string_view(record.text).substr(0, end);
  int64_t line = record.line + std::count(before.begin(), before.end(), '\n');
  size_t newline = before.rfind('\n');
  size_t column = newline == before.npos ? before.size() + 1 : before.size() - newline;
  std::string place = "line " + std::to_string(line) + ", column " + std::to_string(column) + ": ";
  if (record.unfinished && error.byte >= record.text.size()) return {"truncated", place + "the file ends in the middle of this row"};
  return {what.find("surrogate") != what.npos ? "surrogate" : "json", place + what};
}

void Reader::read_record(const Record& record, const std::string& where) {
  data_.rows++;
  if (data_.rows % 1024 == 0) stop_if_interrupted();
  int64_t row = record.row;
  if (record.too_long)
    return problem(row, "too-long-line", where + "row of " + size_of(record.bytes) + "; at most " + size_of(kMaxRecordBytes) + " are read");
  if (size_t at = record.text.find('\0'); at != std::string::npos)
    return problem(row, "nul", where + "byte " + std::to_string(at + 1) + " is NUL");
  if (!valid_utf8(record.text))
    return problem(row, "utf8", where + "byte " + std::to_string(broken_byte(record.text)) + " of the row is not valid UTF-8");
  if (depth_of(record.text) > kMaxDepth)
    return problem(row, "json", where + "brackets are nested deeper than " + std::to_string(kMaxDepth));
  try {
    accept(read_json_row(Json::parse(record.text)), row);
  } catch (const RowError& error) {
    note_fatal(row, error, where);
  } catch (const Json::parse_error& error) {
    note_fatal(row, json_problem(error, record));
  } catch (const Json::exception& error) {  // a number out of range
    problem(row, "json", where + error.what());
  }
}

void Reader::read_lines() {
  LineReader lines(stream_);
  for (Record record; lines.next(record);) read_record(record, "");
}

void Reader::read_values() {
  ValueReader values(stream_);
  for (Record record; values.next(record);) {
    read_record(record, "element at line " + std::to_string(record.line) + ": ");
    if (record.unfinished && !record.too_long) return;
  }
}

struct Found {
  size_t text, label, system;
};

size_t column_named(const std::vector<std::string>& header, const std::string& name) {
  auto it = std::find_if(header.begin(), header.end(), [&](const std::string& h) { return lower(trim(h)) == lower(trim(name)); });
  return size_t(it - header.begin());
}

size_t column_among(const std::vector<std::string>& header, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (size_t at = column_named(header, name); at < header.size()) return at;
  return header.size();
}

std::string list_columns(const std::vector<std::string>& header) {
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(header.size(), 12); i++) text += (i ? ", " : "") + header[i].substr(0, 40);
  return text + (header.size() > 12 ? ", ..." : "");
}

Found find_columns(const std::string& file, const std::vector<std::string>& header, const Columns& wanted) {
  size_t none = header.size();
  auto pick = [&](const std::string& name, std::initializer_list<const char*> usual) {
    size_t at = name.empty() ? column_among(header, usual) : column_named(header, name);
    if (at == none && !name.empty()) throw refused(file + ":1", "has no column \"" + name + "\"; its columns: " + list_columns(header));
    return at;
  };
  Found found{};
  found.text = pick(wanted.text, {"text", "message", "question", "input", "prompt", "query", "utterance", "instruction", "ticket", "body"});
  found.label = pick(wanted.label, {"label", "intent", "category", "answer", "completion", "output", "response", "class", "target"});
  found.system = pick(wanted.system, {"system"});
  if (found.text == none || found.label == none || found.text == found.label)
    throw refused(file + ":1", "no column is plainly the text and another the label; columns: " + list_columns(header),
                  "name them: " + file + ":text=COLUMN,label=COLUMN");
  return found;
}

// One CSV row -> conversation; throws RowError.
RowReading read_csv_row(CsvRow& row, const std::vector<std::string>& header, const Found& found) {
  if (row.open_quote)
    throw RowError{"csv-quote",
                   "a quote opened in this row is never closed: the " + std::to_string(row.lines) + " line(s) from here on were not read"};
  if (row.too_long)
    throw RowError{"too-long-line",
                   "row of " + size_of(row.bytes) + " (an unclosed quote?); at most " + size_of(kMaxRecordBytes) + " are read"};
  if (row.fields.size() != header.size())
    throw RowError{"csv-fields", "row has " + std::to_string(row.fields.size()) + " fields, the header " + std::to_string(header.size()) +
                                     " (a text that holds the separator needs quotes)"};
  for (const std::string& field : row.fields)
    if (!valid_utf8(field)) throw RowError{"utf8", "the text is not valid UTF-8 (save the sheet as CSV UTF-8)"};
  RowReading reading;
  reading.shape = "csv";
  auto& messages = reading.example.messages;
  if (found.system < header.size() && !trim(row.fields[found.system]).empty())
    messages.push_back({"system", row.fields[found.system], true});
  messages.push_back({"user", std::move(row.fields[found.text]), true});
  messages.push_back({"assistant", std::string(trim(row.fields[found.label])), true});
  finish_conversation(reading);
  return reading;
}

void Reader::read_csv() {
  CsvReader rows(stream_);
  CsvRow row;
  if (!rows.next(row)) return;
  if (row.too_long || row.open_quote) throw refused(file_ + ":1", "the header is too long or has an unclosed quote");
  std::vector<std::string> header = std::move(row.fields);
  for (const std::string& name : header)
    if (!valid_utf8(name)) throw refused(file_ + ":1", "the header is not valid UTF-8", "save the sheet as CSV UTF-8");
  Found found = find_columns(file_, header, columns_);
  while (rows.next(row)) {
    data_.rows++;
    if (data_.rows % 1024 == 0) stop_if_interrupted();
    try {
      accept(read_csv_row(row, header, found), row.line);
    } catch (const RowError& error) {
      note_fatal(row.line, error);
    }
  }
}

std::string kind_of(const fs::path& path) {
  std::string kind = lower(path.extension().string());
  if (kind == ".csv" || kind == ".tsv") return "csv";
  return kind == ".jsonl" || kind == ".ndjson" || kind == ".json" ? "json" : "";
}

void Reader::read() {
  std::string kind = kind_of(path_);
  std::string_view start = trim(stream_.rest());
  bool json = kind == "json" || (kind.empty() && (start.starts_with("{") || start.starts_with("[")));
  if (!json) return read_csv();
  // a .json file may be one array, one object a line, or objects printed over many lines
  std::string_view first = start.substr(0, start.find('\n'));
  bool whole_line = trim(first).ends_with('}') || first.size() == start.size();
  bool lines = !start.starts_with("[") && (lower(path_.extension().string()) != ".json" || whole_line);
  lines ? read_lines() : read_values();
}

// Files of a folder by name, folders within included. Links that lead out of it are left alone and said.
std::vector<fs::path> files_in(const fs::path& folder, Dataset& data) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::path home = fs::weakly_canonical(folder, error);
  fs::recursive_directory_iterator it(folder, fs::directory_options::skip_permission_denied, error), end;
  if (error) throw refused(folder.string(), "cannot be read: " + error.message());
  for (; it != end; it.increment(error)) {
    if (error) throw refused(folder.string(), "cannot be read: " + error.message());
    const fs::path& path = it->path();
    if (path.filename().string().starts_with(".")) {
      it.disable_recursion_pending();
      continue;
    }
    if (kind_of(path).empty() || !it->is_regular_file(error)) continue;
    fs::path real = fs::weakly_canonical(path, error);
    if (it->is_symlink() && !lies_within(real, home)) {
      data.problems.push_back({path.string(), 0, "link", "is a link out of the folder and was not read", false});
      continue;
    }
    files.push_back(path);
  }
  if (files.empty()) throw refused(folder.string(), "holds no .jsonl, .json, .csv or .tsv file");
  std::sort(files.begin(), files.end());
  return files;
}

// "file.csv:text=message,label=intent", unless a file has that very name.
Source parse_source(const std::string& source) {
  std::error_code error;
  size_t colon = source.rfind(':');
  if (fs::exists(source, error) || colon == source.npos || source.find('=', colon) == source.npos) return {source, {}};
  Source result{source.substr(0, colon), {}};
  for (const std::string& part : split(std::string_view(source).substr(colon + 1), ',')) {
    size_t equals = part.find('=');
    std::string key = lower(trim(part.substr(0, equals))),
                value(equals == part.npos ? "" : trim(std::string_view(part).substr(equals + 1)));
    std::string* place = key == "text"     ? &result.columns.text
                         : key == "label"  ? &result.columns.label
                         : key == "system" ? &result.columns.system
                                           : nullptr;
    if (!place || value.empty())
      throw usage("\"" + part + "\" names no column", "write FILE.csv:text=COLUMN,label=COLUMN (and system=COLUMN if there is one)");
    *place = value;
  }
  return result;
}

}  // namespace

Dataset read_dataset(const std::string& source) {
  Source parsed = parse_source(source);
  require_source(source);
  std::error_code error;
  Dataset data;
  std::vector<fs::path> files{parsed.path};
  if (fs::is_directory(parsed.path, error)) files = files_in(parsed.path, data);
  Sha256 digest;
  for (const fs::path& file : files) Reader({file, parsed.columns}, data, digest).read();
  data.digest = digest.hex();
  return data;
}

fs::path source_path(const std::string& source) { return parse_source(source).path; }

void require_source(const std::string& source) {
  const fs::path path = source_path(source);
  std::error_code error;
  if (!fs::exists(path, error)) throw refused(path.string(), "there is no such file or folder");
}

void Dataset::require_clean() const {
  auto first = std::find_if(problems.begin(), problems.end(), [](const Problem& p) { return p.fatal; });
  int64_t bad = rows - int64_t(examples.size());
  if (first != problems.end()) {
    std::string count = bad == 1 ? "1 row" : std::to_string(bad) + " rows";
    throw refused(first->file + ":" + std::to_string(first->row), first->message,
                  "drop such rows with --skip-bad (" + count + "), or mend the file");
  }
  if (bad > 0) throw refused("", std::to_string(bad) + " rows cannot be used", "drop them with --skip-bad");
}

}  // namespace fettle
