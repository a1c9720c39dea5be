// Files as streams of bytes, lines and JSON values. A JSON array is cut at its elements by a scanner that knows strings and brackets only,
// so that a file of any size is read one element at a time and each broken element is reported by number.
#include "text/record_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace fettle {
namespace {

constexpr size_t kBufferBytes = 256u << 10;

bool is_json_space(int c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct Magic {
  std::string_view start;
  const char* what;
  const char* mend;
};
constexpr Magic kMagics[] = {
    {"PAR1", "is a Parquet file", "write it as JSONL, e.g. pandas.read_parquet(f).to_json(g, orient='records', lines=True)"},
    {"PK\x03\x04", "is a zip archive or a spreadsheet (.xlsx)", "unpack it, or save the sheet as CSV (UTF-8)"},
    {"\x1f\x8b", "is compressed with gzip", "unpack it first: gunzip FILE"},
    {"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first: unzstd FILE"},
    {"GGUF", "is a model (GGUF), not a data set", "give the model first, then the data"},
};

}  // namespace

ByteStream::ByteStream(const std::filesystem::path& path, Sha256& digest) : place_(path.string()), digest_(digest) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not hang
  fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) throw refused(place_, std::string("cannot be read: ") + std::strerror(errno));
  struct stat status;
  if (fstat(fd_, &status) != 0 || !(S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode))) {
    close(fd_);
    throw refused(place_, "is no ordinary file");
  }
  int flags = fcntl(fd_, F_GETFL);
  if (flags >= 0) fcntl(fd_, F_SETFL, flags & ~O_NONBLOCK);
  try {
    check_start();
  } catch (...) {
    close(fd_);
    throw;
  }
}

ByteStream::~ByteStream() { close(fd_); }

bool ByteStream::fill() {
  buffer_.resize(kBufferBytes);
  ssize_t n;
  do n = read(fd_, buffer_.data(), buffer_.size());
  while (n < 0 && errno == EINTR);
  if (n < 0) throw refused(place_, std::string("cannot be read: ") + std::strerror(errno));
  at_ = 0;
  end_ = size_t(n);
  digest_.update(std::as_bytes(std::span(buffer_.data(), end_)));
  return n > 0;
}

void ByteStream::check_start() {
  std::string_view start = rest();
  for (const Magic& magic : kMagics)
    if (start.starts_with(magic.start)) throw refused(place_, magic.what, magic.mend);
  bool marked = start.starts_with("\xff\xfe") || start.starts_with("\xfe\xff");
  bool halves = start.size() >= 4 && ((start[0] && !start[1] && start[2] && !start[3]) || (!start[0] && start[1] && !start[2] && start[3]));
  if (marked || halves)
    throw refused(place_, "is UTF-16; data sets are read as UTF-8",
                  "convert it: iconv -f UTF-16 -t UTF-8 " + place_ + " > utf8-" + std::filesystem::path(place_).filename().string());
  if (start.starts_with("\xef\xbb\xbf")) skip(3);
}

bool LineReader::next(Record& record) {
  for (;;) {
    record = Record{};
    record.row = record.line = ++line_;
    record.unfinished = true;
    for (std::string_view part = stream_.rest(); !part.empty(); part = stream_.rest()) {
      size_t end = part.find('\n');
      size_t length = end == part.npos ? part.size() : end;
      record.bytes += length;
      if (record.bytes > kMaxRecordBytes) record.too_long = true, record.text = {};
      if (!record.too_long) record.text.append(part, 0, length);
      stream_.skip(length + (end != part.npos));
      if (end == part.npos) continue;
      record.unfinished = false;
      break;
    }
    if (record.text.ends_with('\r')) record.text.pop_back();
    if (record.too_long || !trim(record.text).empty()) return true;
    if (record.unfinished) return false;
  }
}

bool ValueReader::next(Record& record) {
  record = Record{};
  for (int c = stream_.peek();; stream_.get(), c = stream_.peek()) {
    if (c < 0 || ended_) return false;
    if (c == '\n') line_++;
    if (c == '[' && !started_) {
      started_ = true;
    } else if (c == ']') {
      ended_ = true;
    } else if (!is_json_space(c) && c != ',') {
      break;
    }
  }
  started_ = true;
  record.row = ++row_;
  record.line = line_;
  take_value(record);
  return true;
}

// Up to the end of the value that starts here: the bracket that closes it, or what ends a bare word or string.
void ValueReader::take_value(Record& record) {
  int64_t depth = 0;
  bool in_string = false, escaped = false;
  for (;;) {
    int c = stream_.peek();
    if (c < 0) break;
    if (!in_string && depth == 0 && record.bytes && (c == ',' || c == ']' || is_json_space(c))) return;
    stream_.get();
    if (c == '\n') line_++;
    if (++record.bytes > kMaxRecordBytes) record.too_long = true, record.text = {};
    if (!record.too_long) record.text.push_back(char(c));
    if (in_string) {
      if (!escaped && c == '"') in_string = false;
      escaped = !escaped && c == '\\';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      depth++;
    } else if ((c == '}' || c == ']') && --depth <= 0) {
      return;
    }
  }
  record.unfinished = in_string || depth > 0;
}

}  // namespace fettle
