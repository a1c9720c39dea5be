// Downloads with resume. The idea: a part is continued only when it can be proved to be the front of the same file (a strong ETag sent as
// If-Range, or a digest that is checked at the end), otherwise it is begun anew; the file gets its name when digest and content are right.
// Source: RFC 9110, ranges and conditional requests. Not handled: several connections for one file.
#include "store/download.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/json_text.h"

namespace fettle {
namespace {

constexpr size_t kMaxState = 1u << 16;
constexpr int kMaxRestarts = 2;

// What the bytes of a part belong to.
struct PartState {
  std::string url, etag, sha256;
  uint64_t total = 0;  // 0: unknown
};

fs::path beside(const fs::path& target, const char* suffix) {
  fs::path path = target;
  path += suffix;
  return path;
}

// target.part, locked against other processes while it is open.
class Part {
 public:
  explicit Part(const fs::path& target) : path_(beside(target, ".part")), state_path_(beside(target, ".part.json")) {
    for (;;) {
      fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
      if (fd_ < 0) throw failed(path_.string(), std::string("cannot open: ") + std::strerror(errno));
      if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
        ::close(std::exchange(fd_, -1));
        throw failed(path_.string(), "is being downloaded by another fettle", "wait for it to end, or stop it");
      }
      // the other may have renamed the file between our open and our lock
      struct stat ours, there;
      if (::fstat(fd_, &ours) == 0 && ::stat(path_.c_str(), &there) == 0 && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev) {
        size_ = uint64_t(ours.st_size);
        break;
      }
      ::close(std::exchange(fd_, -1));
    }
    load_state();
  }
  ~Part() {
    if (fd_ < 0) return;
    // an empty part helps nobody
    if (size_ == 0) remove();
    ::close(fd_);
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  const fs::path& path() const { return path_; }
  uint64_t size() const { return size_; }
  const PartState& state() const { return state_; }

  void restart(PartState state) {
    if (::ftruncate(fd_, 0) != 0) throw failed(path_.string(), std::string("cannot empty: ") + std::strerror(errno));
    size_ = 0;
    state_ = std::move(state);
    nlohmann::json json = {{"url", state_.url}, {"etag", state_.etag}, {"sha256", state_.sha256}, {"total", state_.total}};
    write_text(state_path_, json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), off_t(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        bool full = errno == ENOSPC || errno == EDQUOT;
        throw failed(path_.string(), std::string("cannot write: ") + std::strerror(errno) + " (after " + format_bytes(double(size_)) + ")",
                     full ? "free some space and start again: the download goes on from here" : "");
      }
      size_ += uint64_t(n);
      bytes = bytes.subspan(size_t(n));
    }
  }
  void forget() { ::unlink(state_path_.c_str()); }
  void remove() {
    ::unlink(path_.c_str());
    forget();
  }

 private:
  void load_state() {
    std::error_code ignored;
    if (size_ == 0 || !fs::exists(state_path_, ignored)) return;
    try {
      auto json = parse_json(read_text(state_path_, kMaxState), state_path_.string());
      state_ = {json.at("url"), json.at("etag"), json.at("sha256"), json.at("total")};
    } catch (const std::exception&) {
      state_ = {};  // nothing is known of these bytes: they will be fetched again
    }
  }

  fs::path path_, state_path_;
  PartState state_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

std::string strong_etag(const HttpReply& reply) {
  std::string etag = reply.header("etag");
  return etag.starts_with('"') ? etag : "";
}

// The hub's own word for the file's digest; it comes with the first answer, before the redirect to where the bytes are.
std::string linked_digest(const HttpReply& reply) {
  auto it = reply.asked.empty() ? reply.headers.find("x-linked-etag") : reply.asked.find("x-linked-etag");
  if (it == (reply.asked.empty() ? reply.headers.end() : reply.asked.end())) return "";
  std::string text = lower(it->second);
  std::erase(text, '"');
  return is_sha256(text) ? text : "";
}

uint64_t number(std::string_view text) {
  uint64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc() && end == text.data() + text.size() ? n : 0;
}

// "bytes 5-9/10" or "bytes */10"
struct ContentRange {
  std::optional<uint64_t> first;
  uint64_t total = 0;
  explicit ContentRange(std::string_view text) {
    size_t slash = text.find('/');
    if (!text.starts_with("bytes ") || slash == text.npos) return;
    total = number(text.substr(slash + 1));
    std::string_view range = text.substr(6, slash - 6);
    if (size_t dash = range.find('-'); dash != range.npos) first = number(range.substr(0, dash));
  }
};

struct StartAnew {};

class Download {
 public:
  Download(const std::string& url, const fs::path& target, const DownloadOptions& options)
      : url_(url), target_(target), options_(options), part_(target) {}

  void run() {
    auto idle = [this] { tell(); };
    with_retries(
        options_.retry, idle, [this] { attempt(); }, [this] { return part_.size(); });
    if (part_.size() == 0) throw failed(options_.place, "the server sent an empty file");
    install(part_.path(), target_, digest(), options_.place, options_.gguf);
    part_.forget();
  }

 private:
  std::string digest() const { return options_.sha256.empty() ? part_.state().sha256 : options_.sha256; }

  // The part may be continued: same URL, and a way to notice that the file behind it has changed.
  bool resumable() const {
    const PartState& s = part_.state();
    return part_.size() > 0 && s.url == url_ && (!s.etag.empty() || !digest().empty());
  }

  void attempt() {
    for (int restarts = 0;; restarts++) {
      try {
        return fetch();
      } catch (const StartAnew&) {
        if (restarts == kMaxRestarts) throw HttpError(failed(options_.place, "the file changes while it is fetched"), 1);
        part_.restart({});
      }
    }
  }

  void fetch() {
    HttpRequest request{.url = url_, .place = options_.place, .token = options_.token};
    resuming_ = resumable();
    if (resuming_) {
      request.headers.push_back("Range: bytes=" + std::to_string(part_.size()) + "-");
      if (!part_.state().etag.empty()) request.headers.push_back("If-Range: " + part_.state().etag);
    }
    request.on_head = [this](const HttpReply& reply) { head(reply); };
    request.on_body = [this](std::span<const std::byte> bytes) {
      part_.append(bytes);
      if (total_ && part_.size() > total_) throw StartAnew();
      tell();
    };
    request.on_idle = [this] { tell(); };
    request.accepts = [this](const HttpReply& reply) { return reply.status == 416 && resuming_; };
    HttpReply reply = http_get(request);
    // nothing lies behind our last byte: either we have all of it, or it is another file
    if (reply.status == 416 && ContentRange(reply.header("content-range")).total != part_.size()) throw StartAnew();
    if (total_ && part_.size() < total_) throw HttpError(failed(options_.place, "the file came short: " + progress_text()), 5);
  }

  void head(const HttpReply& reply) {
    std::string linked = options_.hub ? linked_digest(reply) : "", etag = strong_etag(reply);
    if (!linked.empty() && !options_.sha256.empty() && linked != options_.sha256)
      throw failed(options_.place, "the hub has another file now: its digest is " + linked + ", expected " + options_.sha256);
    if (reply.status == 206) {
      ContentRange range(reply.header("content-range"));
      const PartState& s = part_.state();
      bool same = resuming_ && range.first == part_.size() && (!s.total || !range.total || s.total == range.total) &&
                  (s.etag.empty() || etag.empty() || s.etag == etag) && (s.sha256.empty() || linked.empty() || s.sha256 == linked);
      if (!same) throw StartAnew();
      total_ = range.total ? range.total : s.total;
    } else if (reply.status == 200) {
      total_ = number(reply.header("content-length"));
      part_.restart({url_, etag, linked, total_});
    } else {
      throw HttpError(failed(options_.place, "an unexpected answer (status " + std::to_string(reply.status) + ")"), 1);
    }
    if (total_ > part_.size()) check_space(target_, total_ - part_.size(), options_.place);
  }

  void tell() const {
    if (options_.progress) options_.progress(part_.size(), total_);
  }
  std::string progress_text() const { return std::to_string(part_.size()) + " of " + std::to_string(total_) + " bytes"; }

  std::string url_;
  fs::path target_;
  DownloadOptions options_;
  Part part_;
  bool resuming_ = false;
  uint64_t total_ = 0;
};

void flush(const fs::path& path, int flags) {
  int fd = ::open(path.c_str(), flags | O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  int error = ::fsync(fd) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
  ::close(fd);
  if (error) throw failed(path.string(), std::string("cannot be written to disk: ") + std::strerror(error));
}

}  // namespace

void check_space(const fs::path& path, uint64_t bytes, const std::string& place) {
  fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  struct statvfs info;
  if (::statvfs(folder.c_str(), &info) != 0) return;
  uint64_t room = uint64_t(info.f_bavail) * info.f_frsize;
  if (room < bytes)
    throw failed(place,
                 "needs " + format_bytes(double(bytes)) + " more on the disk of " + folder.string() + ", which has " +
                     format_bytes(double(room)) + " left",
                 "free some space, or point FETTLE_HOME to a larger disk");
}

bool is_sha256(std::string_view text) { return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos; }

void install(const fs::path& file, const fs::path& target, const std::string& sha256, const std::string& place, bool gguf) {
  auto discard = [&](const std::string& message, const std::string& hint) {
    std::error_code ignored;
    fs::remove(file, ignored);
    fs::remove(beside(file, ".json"), ignored);
    return failed(place, message, hint);
  };
  stop_if_interrupted();
  if (!sha256.empty())
    if (std::string got = sha256_file(file); got != lower(sha256))
      throw discard("the file's SHA-256 is " + got + ", expected " + sha256 + "; it was removed", "try again, or use another source");
  try {
    if (gguf) Gguf whole(file);
  } catch (const Error& error) {
    throw discard(std::string("what came is no whole GGUF file, and was removed: ") + error.what(), "");
  }
  flush(file, 0);
  std::error_code error;
  fs::rename(file, target, error);
  if (error) throw failed(target.string(), "cannot move the file here: " + error.message());
  flush(target.has_parent_path() ? target.parent_path() : ".", O_DIRECTORY);
}

void download(const std::string& url, const fs::path& target, const DownloadOptions& options) { Download(url, target, options).run(); }

}  // namespace fettle
