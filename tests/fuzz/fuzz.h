// What the fuzz drivers share: bytes as a file, and which endings are fine. A reader may refuse with Error and nothing else; a crash, a
// sanitizer's complaint, another exception, a timeout or too much memory is a finding. Built and run by tools/fuzz.py (libFuzzer).
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/base.h"

namespace fettle {

// A file in memory with a path; gone with the object.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    for (size_t at = 0; at < size;) {
      ssize_t n = ::write(fd_, data + at, size - at);
      if (n <= 0) std::abort();
      at += size_t(n);
    }
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  fs::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

// Runs a reader; Error is its right to refuse.
template <class Work>
int survives(Work&& work) {
  try {
    work();
  } catch (const Error&) {
  }
  return 0;
}

}  // namespace fettle
