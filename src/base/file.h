// Files as fettle treats them: mapped for reading, written beside their place and renamed when whole.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace fettle {

namespace fs = std::filesystem;

// A whole file, mapped read-only. Throws Error{refused} when it is missing, a folder or unreadable.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  // Takes the pages of this part out of the process's memory; whoever reads it again gets it from the file. Parts of other files: nothing.
  void forget(std::span<const std::byte> part) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Writes `path`.tmp-PID; commit() flushes to disk, renames over `path` and flushes the folder. Destroyed uncommitted: the temporary
// file is removed and whatever stood at `path` is untouched. What a killed process left of its own try at `path` goes. Every write error
// (disk full, quota) throws Error{failed}.
class AtomicFile {
 public:
  explicit AtomicFile(fs::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  // Bytes written so far.
  uint64_t size() const { return size_; }
  void commit();

 private:
  fs::path path_, temporary_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string buffer_;
  void flush_buffer();
};

// "model.gguf.tmp-123-0" and the like (.tmp-, .pip-, .incoming-, .removed-): 123, the process that writes it; 0: no such name.
int writer_of(const std::string& name);
bool process_lives(int pid);

// What an errno means, as fettle tells it: "no space left on the disk".
std::string system_text(int error);
// How to get on when the disk of `path` is full.
std::string space_hint(const fs::path& path);

// Whole small file as text; Error{refused} when longer than `limit` bytes.
std::string read_text(const fs::path& path, size_t limit = 64u << 20);
// AtomicFile in one call.
void write_text(const fs::path& path, std::string_view text);

// $FETTLE_HOME, or $XDG_DATA_HOME/fettle, or ~/.local/share/fettle. Not created.
fs::path fettle_home();

// Whether `path` is `folder` or lies below it, by their names: both absolute and without "..".
bool lies_within(const fs::path& path, const fs::path& folder);

// Whether some process holds a FileLock (or another flock) on `path`. Writes nothing.
bool is_locked(const fs::path& path);

// An exclusive lock on `path` (created if absent), held until destruction; Error{failed} naming the holder when another process has it.
class FileLock {
 public:
  explicit FileLock(const fs::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace fettle
