// Private to text: files as streams of records (lines, JSON values, CSV rows) in bounded memory. Whatever a file holds, at most one read
// buffer and one record of kMaxRecordBytes are in memory; a longer record is passed over and said to be too long.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace fettle {

inline constexpr size_t kMaxRecordBytes = 8u << 20;

// The bytes of a file in order, without a leading UTF-8 byte order mark. Not mapped: a file that shrinks meanwhile must not kill the
// process.
class ByteStream {
 public:
  // `digest` takes in every byte read. Throws Error{refused}: missing, a folder, a device, unreadable, UTF-16, or plainly no text.
  ByteStream(const std::filesystem::path& path, Sha256& digest);
  ~ByteStream();
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;
  int peek() { return at_ < end_ || fill() ? static_cast<unsigned char>(buffer_[at_]) : -1; }  // -1 at the end
  int get() { return at_ < end_ || fill() ? static_cast<unsigned char>(buffer_[at_++]) : -1; }
  // What is in memory and not yet taken; empty at the end only.
  std::string_view rest() { return at_ < end_ || fill() ? std::string_view(buffer_).substr(at_, end_ - at_) : std::string_view(); }
  void skip(size_t bytes) { at_ += bytes; }

 private:
  bool fill();
  void check_start();
  std::string place_;
  Sha256& digest_;
  std::string buffer_;
  size_t at_ = 0, end_ = 0;
  int fd_ = -1;
};

struct Record {
  std::string text;    // empty when too long
  int64_t row = 0;     // line or element, 1-based
  int64_t line = 0;    // line on which it starts
  uint64_t bytes = 0;  // its true length
  bool too_long = false;
  bool unfinished = false;  // the file ends inside it (lines: no newline at the end)
};

// Lines without their line ends; blank lines are passed over.
class LineReader {
 public:
  explicit LineReader(ByteStream& stream) : stream_(stream) {}
  bool next(Record& record);

 private:
  ByteStream& stream_;
  int64_t line_ = 0;
};

// The elements of one top-level JSON array, or top-level JSON values one after another. Finds only where values end; parsing is for others.
class ValueReader {
 public:
  explicit ValueReader(ByteStream& stream) : stream_(stream) {}
  bool next(Record& record);

 private:
  void take_value(Record& record);
  ByteStream& stream_;
  int64_t line_ = 1, row_ = 0;
  bool started_ = false, ended_ = false;
};

// Rows of comma-separated values: RFC 4180, and as spreadsheets write it (semicolons or tabs, found from the first line; CRLF or LF).
struct CsvRow {
  std::vector<std::string> fields;
  int64_t line = 0;   // where it starts, 1-based
  int64_t lines = 1;  // how many it covers
  uint64_t bytes = 0;
  bool too_long = false;
  bool open_quote = false;  // a quote in it never closes
};
class CsvReader {
 public:
  explicit CsvReader(ByteStream& stream) : stream_(stream) {}
  bool next(CsvRow& row);

 private:
  void find_separator();
  void take_field(CsvRow& row, int& last);
  void take_quoted(CsvRow& row, std::string& field);
  int get();
  void put(CsvRow& row, std::string& field, int c);
  ByteStream& stream_;
  char separator_ = 0;
  int64_t line_ = 1;
  bool in_line_ = false;  // the last character read did not end its line
};

}  // namespace fettle
