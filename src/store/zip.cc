// Zip archives after PKWARE's APPNOTE: the directory at the end is what counts, each entry's own header is only stepped over. Every offset
// is checked against the file before it is read, and what is unpacked against size and CRC. Not handled: zip64, encryption, several disks,
// methods other than stored and deflated.
#include "store/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "base/json_text.h"

namespace fettle {
namespace {

constexpr uint32_t kEndMark = 0x06054b50, kEntryMark = 0x02014b50, kLocalMark = 0x04034b50;
constexpr size_t kEndBytes = 22, kEntryBytes = 46, kLocalBytes = 30, kMaxComment = 65535;
constexpr uint64_t kMostRatio = 1032;  // deflate cannot do better
constexpr size_t kPiece = 1u << 18;

template <class T>
T load(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Where the end record lies.
size_t find_end(std::span<const std::byte> bytes, const std::string& place) {
  if (bytes.size() >= kEndBytes) {
    size_t last = bytes.size() - kEndBytes, first = last > kMaxComment ? last - kMaxComment : 0;
    for (size_t at = last + 1; at-- > first;)
      if (load<uint32_t>(bytes, at) == kEndMark && at + kEndBytes + load<uint16_t>(bytes, at + 20) == bytes.size()) return at;
  }
  throw refused(place, "is no zip archive, or is cut short");
}

}  // namespace

ZipFile::ZipFile(const fs::path& path) : place_(path.string()), file_(path) {
  auto bytes = file_.bytes();
  size_t end = find_end(bytes, place_);
  uint16_t count = load<uint16_t>(bytes, end + 10);
  uint64_t size = load<uint32_t>(bytes, end + 12);
  directory_ = load<uint32_t>(bytes, end + 16);
  if (count == 0xFFFF || size == 0xFFFFFFFF || directory_ == 0xFFFFFFFF)
    throw refused(place_, "is a zip64 archive, which is not read here");
  if (load<uint16_t>(bytes, end + 4) != 0 || load<uint16_t>(bytes, end + 8) != count)
    throw refused(place_, "is a zip archive of several parts");
  if (directory_ + size > end) throw refused(place_, "its directory does not fit into the file");
  auto rest = bytes.subspan(directory_, size);
  for (unsigned i = 0; i < count; i++) {
    std::string what = "entry " + std::to_string(i) + " of its directory";
    if (rest.size() < kEntryBytes || load<uint32_t>(rest, 0) != kEntryMark) throw refused(place_, what + " is broken");
    size_t name = load<uint16_t>(rest, 28), extra = load<uint16_t>(rest, 30), comment = load<uint16_t>(rest, 32);
    if (rest.size() < kEntryBytes + name + extra + comment) throw refused(place_, what + " is cut short");
    Entry e{std::string(reinterpret_cast<const char*>(rest.data()) + kEntryBytes, name),
            load<uint16_t>(rest, 10),
            load<uint32_t>(rest, 16),
            load<uint32_t>(rest, 20),
            load<uint32_t>(rest, 24),
            load<uint32_t>(rest, 42)};
    if (load<uint16_t>(rest, 8) & 1) throw refused(place_, printable(e.name) + " is encrypted");
    entries_.push_back(std::move(e));
    rest = rest.subspan(kEntryBytes + name + extra + comment);
  }
}

std::span<const std::byte> ZipFile::packed_bytes(const Entry& entry) const {
  std::string place = place_ + ": " + printable(entry.name);
  auto bytes = file_.bytes();
  if (entry.header + kLocalBytes > directory_ || load<uint32_t>(bytes, entry.header) != kLocalMark)
    throw refused(place, "its header is not where the directory says");
  uint64_t start = entry.header + kLocalBytes + load<uint16_t>(bytes, entry.header + 26) + load<uint16_t>(bytes, entry.header + 28);
  if (start > directory_ || entry.packed > directory_ - start) throw refused(place, "its bytes do not fit into the archive");
  return bytes.subspan(start, entry.packed);
}

void ZipFile::extract(const Entry& entry, const std::function<void(std::span<const std::byte>)>& sink) const {
  std::string place = place_ + ": " + printable(entry.name);
  auto packed = packed_bytes(entry);
  uLong crc = crc32(0, nullptr, 0);
  uint64_t size = 0;
  auto give = [&](std::span<const std::byte> piece) {
    if (piece.size() > entry.size - size) throw refused(place, "unpacks to more than the directory says");
    size += piece.size();
    crc = crc32(crc, reinterpret_cast<const Bytef*>(piece.data()), uInt(piece.size()));
    sink(piece);
  };
  if (entry.method == 0) {
    for (; !packed.empty(); packed = packed.subspan(std::min(kPiece, packed.size()))) give(packed.first(std::min(kPiece, packed.size())));
  } else if (entry.method == 8) {
    if (entry.size / kMostRatio > entry.packed) throw refused(place, "claims a size that its bytes cannot make");
    z_stream stream{};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw failed(place, "no memory to unpack");
    std::unique_ptr<z_stream, int (*)(z_stream*)> guard(&stream, inflateEnd);
    std::vector<std::byte> out(kPiece);
    int state = Z_OK;
    while (state != Z_STREAM_END) {
      if (stream.avail_in == 0) {
        auto piece = packed.first(std::min(kPiece, packed.size()));
        packed = packed.subspan(piece.size());
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(piece.data()));
        stream.avail_in = uInt(piece.size());
      }
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = uInt(out.size());
      state = inflate(&stream, Z_NO_FLUSH);
      // Z_BUF_ERROR: no more input, and the stream has not ended
      if (state != Z_OK && state != Z_STREAM_END) throw refused(place, "its packed bytes are damaged or cut short");
      give(std::span(out).first(out.size() - stream.avail_out));
    }
  } else {
    throw refused(place, "is packed in a way that is not read here (method " + std::to_string(entry.method) + ")");
  }
  if (size != entry.size || uint32_t(crc) != entry.crc) throw refused(place, "is damaged: size or checksum is not what the archive says");
}

}  // namespace fettle
