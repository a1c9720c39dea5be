// Reading zip archives (wheels are such). Private to store.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/base.h"

namespace fettle {

class ZipFile {
 public:
  // Checks the directory completely; Error{refused} names what is wrong.
  explicit ZipFile(const fs::path& path);
  struct Entry {
    std::string name;
    uint16_t method = 0;  // 0 stored, 8 deflated
    uint32_t crc = 0;
    uint64_t packed = 0, size = 0, header = 0;
  };
  const std::vector<Entry>& entries() const { return entries_; }
  // The entry's bytes, piece by piece; never more than entry.size. Error{refused} when they are not what the directory says.
  void extract(const Entry& entry, const std::function<void(std::span<const std::byte>)>& sink) const;

 private:
  std::span<const std::byte> packed_bytes(const Entry& entry) const;
  std::string place_;
  MappedFile file_;
  uint64_t directory_ = 0;  // where the directory begins: no entry reaches past it
  std::vector<Entry> entries_;
};

}  // namespace fettle
