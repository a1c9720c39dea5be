// Files: mapping, whole-or-nothing writing, small texts, locks, the home folder. Linux system calls, so that every error is seen.
// Does not handle: a mapped file that someone shortens while it is in use (the kernel answers with SIGBUS).
#include "base/file.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace fettle {
namespace {

constexpr size_t kBufferBytes = 1u << 20;

// An open descriptor that closes itself.
struct Descriptor {
  int fd;
  explicit Descriptor(int fd) : fd(fd) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

// 0, or the error. A file system that cannot be asked counts as done.
int sync(int fd) {
  while (::fsync(fd) != 0)
    if (errno != EINTR) return errno == EINVAL || errno == EROFS ? 0 : errno;
  return 0;
}

}  // namespace

std::string system_text(int error) {
  switch (error) {
    case ENOENT:
      return "no such file";
    case EACCES:
    case EPERM:
      return "permission denied";
    case EISDIR:
      return "is a folder, not a file";
    case ENOTDIR:
      return "a part of the path is not a folder";
    case ENOSPC:
      return "no space left on the disk";
    case EDQUOT:
      return "the disk quota is used up";
    case EFBIG:
      return "the file grew past the allowed size";
    case EROFS:
      return "the file system is read-only";
    default:
      return std::strerror(error);
  }
}

std::string space_hint(const fs::path& path) {
  return lies_within(fs::absolute(path).lexically_normal(), fettle_home())
             ? "`fettle rm` frees space, FETTLE_HOME can point to another disk"
             : "free some space, or name another place with --out";
}

MappedFile::MappedFile(const fs::path& path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not hang
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) throw refused(path.string(), system_text(errno));
  struct stat info;
  if (::fstat(file.fd, &info) != 0) throw refused(path.string(), system_text(errno));
  if (S_ISDIR(info.st_mode)) throw refused(path.string(), system_text(EISDIR));
  if (!S_ISREG(info.st_mode)) throw refused(path.string(), "is not a regular file", "copy its content into a file first");
  if (info.st_size == 0) return;
  void* place = ::mmap(nullptr, size_t(info.st_size), PROT_READ, MAP_SHARED, file.fd, 0);
  if (place == MAP_FAILED) throw refused(path.string(), "cannot map " + std::to_string(info.st_size) + " bytes: " + system_text(errno));
  data_ = static_cast<const std::byte*>(place);
  size_ = size_t(info.st_size);
}

void MappedFile::forget(std::span<const std::byte> part) const {
  if (part.empty() || part.data() < data_ || part.data() + part.size() > data_ + size_) return;
  const size_t page = size_t(::sysconf(_SC_PAGESIZE)), first = size_t(part.data() - data_) / page * page;
  ::madvise(const_cast<std::byte*>(data_) + first, size_t(part.data() - data_) + part.size() - first, MADV_DONTNEED);  // advice
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

bool process_lives(int pid) { return ::kill(pid, 0) == 0 || errno != ESRCH; }

int writer_of(const std::string& name) {
  for (const std::string_view word : {".tmp-", ".pip-", ".incoming-", ".removed-"}) {
    const size_t at = name.rfind(word);
    if (at == std::string::npos) continue;
    const std::string_view rest = std::string_view(name).substr(at + word.size());
    int pid = 0;
    std::from_chars(rest.data(), rest.data() + rest.size(), pid);
    if (rest.find_first_not_of("0123456789-") == rest.npos) return pid;
  }
  return 0;
}

// Attempts at `path` whose writers are gone.
static void remove_dead_attempts(const fs::path& path) {
  const std::string start = path.filename().string() + ".tmp-";
  std::error_code error;
  for (fs::directory_iterator it(folder_of(path), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (const int pid = name.starts_with(start) ? writer_of(name) : 0; pid > 0 && !process_lives(pid)) fs::remove(it->path(), ignored);
  }
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  static std::atomic<unsigned> serial{0};
  struct stat info;
  // renaming over /dev/null or a folder would do harm or fail only at the very end
  if (::stat(path_.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    throw failed(path_.string(), S_ISDIR(info.st_mode) ? "is a folder, not a file" : "exists and is not a regular file");
  remove_dead_attempts(path_);
  for (int attempt = 0; attempt < 100 && fd_ < 0; attempt++) {
    temporary_ = path_;
    temporary_ += ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(serial++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST && errno != EINTR) break;
  }
  if (fd_ >= 0) return;
  const int error = errno;
  if (error == ENOENT)
    throw failed(path_.string(), "there is no folder " + folder_of(path_).string(), "mkdir -p " + folder_of(path_).string());
  throw failed(path_.string(), "cannot create: " + system_text(error));
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::write(std::string_view text) {
  CHECK(fd_ >= 0, "write after commit");
  while (!text.empty()) {
    size_t n = std::min(text.size(), kBufferBytes - buffer_.size());
    buffer_.append(text.substr(0, n));
    size_ += n;
    text.remove_prefix(n);
    if (buffer_.size() == kBufferBytes) flush_buffer();
  }
}

void AtomicFile::flush_buffer() {
  size_t at = 0;
  while (at < buffer_.size()) {
    ssize_t n = ::write(fd_, buffer_.data() + at, buffer_.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      int error = errno;
      buffer_.erase(0, at);
      uint64_t written = size_ - buffer_.size();
      throw failed(path_.string(), "cannot write: " + system_text(error) + " (after " + std::to_string(written) + " bytes)",
                   error == ENOSPC || error == EDQUOT ? space_hint(path_) : "");
    }
    at += size_t(n);
  }
  buffer_.clear();
}

void AtomicFile::commit() {
  CHECK(fd_ >= 0, "committed twice");
  auto give_up = [&](int error) {
    ::unlink(temporary_.c_str());
    throw failed(path_.string(), "cannot write " + std::to_string(size_) + " bytes: " + system_text(error));
  };
  flush_buffer();
  if (int error = sync(fd_))
    throw failed(path_.string(), "cannot write " + std::to_string(size_) + " bytes to disk: " + system_text(error));
  // some network file systems report a full disk only when the file is closed
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) give_up(errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) give_up(errno);
  Descriptor folder(::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (int error = folder.fd < 0 ? 0 : sync(folder.fd))
    throw failed(path_.string(), "cannot write the folder to disk: " + system_text(error));
}

std::string read_text(const fs::path& path, size_t limit) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) throw refused(path.string(), system_text(errno));
  std::string text;
  struct stat info;
  if (::fstat(file.fd, &info) == 0 && S_ISREG(info.st_mode) && uint64_t(info.st_size) <= limit) text.reserve(size_t(info.st_size) + 1);
  // read to the end rather than trust the size: /proc files say 0, pipes say nothing
  for (char chunk[1 << 16];;) {
    ssize_t n = ::read(file.fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw refused(path.string(), system_text(errno));
    if (n == 0) return text;
    if (size_t(n) > limit - text.size()) throw refused(path.string(), "is longer than " + std::to_string(limit) + " bytes");
    text.append(chunk, size_t(n));
  }
}

void write_text(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

fs::path fettle_home() {
  auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return fs::path(value ? value : "");
  };
  if (fs::path home = variable("FETTLE_HOME"); !home.empty()) return fs::absolute(home).lexically_normal();
  // the XDG base directory specification: a relative path is to be ignored
  if (fs::path data = variable("XDG_DATA_HOME"); data.is_absolute()) return data / "fettle";
  fs::path user = variable("HOME");
  if (user.empty())
    if (const passwd* entry = ::getpwuid(::getuid()); entry && entry->pw_dir) user = entry->pw_dir;
  if (user.empty()) throw failed("", "no home folder is known", "set FETTLE_HOME to a folder of your choice");
  return user / ".local" / "share" / "fettle";
}

bool lies_within(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

bool is_locked(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0 || ::flock(file.fd, LOCK_SH | LOCK_NB) == 0) return false;  // closing lets go of it
  return errno == EWOULDBLOCK;
}

FileLock::FileLock(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (file.fd < 0) throw failed(path.string(), "cannot open the lock: " + system_text(errno));
  while (::flock(file.fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) throw failed(path.string(), "cannot lock: " + system_text(errno));
    char holder[32] = {};
    if (::pread(file.fd, holder, sizeof holder - 1, 0) <= 0) std::strcpy(holder, "unknown");
    holder[std::strcspn(holder, "\n")] = 0;
    throw failed(path.string(), std::string("is in use by another fettle (process ") + holder + ")", "wait for it to end, or stop it");
  }
  std::string pid = std::to_string(::getpid()) + "\n";
  // the number is only for the other's error message; a full disk does not make the lock less of one
  if (::ftruncate(file.fd, 0) != 0 || ::pwrite(file.fd, pid.data(), pid.size(), 0) < 0) errno = 0;
  fd_ = std::exchange(file.fd, -1);
}

FileLock::~FileLock() {
  // the file stays: removing it would race with one who has just opened it
  if (::ftruncate(fd_, 0) != 0) errno = 0;
  ::close(fd_);
}

}  // namespace fettle
