// SHA-256 from OpenSSL (it picks the processor's SHA instructions), xxHash64 from libxxhash.
#include "base/hash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace fettle {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  CHECK(state_->context && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1, "OpenSSL offers no SHA-256");
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
  CHECK(state_, "the digest has ended");
  CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex() {
  CHECK(state_, "the digest has ended");
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  CHECK(EVP_DigestFinal_ex(state_->context, digest, &length) == 1);
  state_.reset();
  std::string text;
  for (unsigned i = 0; i < length; i++) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 digest;
  digest.update(bytes);
  return digest.hex();
}

std::string sha256_hex(std::string_view text) { return sha256_hex(std::as_bytes(std::span(text.data(), text.size()))); }

// Reads rather than maps: a file that shrinks meanwhile must not end in SIGBUS.
std::string sha256_file(const std::filesystem::path& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw refused(path.string(), errno == ENOENT ? "no such file" : std::string("cannot open: ") + std::strerror(errno));
  Sha256 digest;
  std::vector<std::byte> chunk(1u << 20);
  ssize_t got = 0;
  int problem = 0;
  for (;;) {
    got = ::read(fd, chunk.data(), chunk.size());
    if (got > 0) digest.update({chunk.data(), size_t(got)});
    if (got == 0) break;
    if (got < 0 && errno != EINTR) {
      problem = errno;
      break;
    }
  }
  ::close(fd);
  if (problem)
    throw refused(path.string(), problem == EISDIR ? "is a folder, not a file" : std::string("cannot read: ") + std::strerror(problem));
  return digest.hex();
}

uint64_t hash64(std::span<const std::byte> bytes, uint64_t seed) noexcept { return XXH64(bytes.data(), bytes.size(), seed); }
uint64_t hash64(std::string_view text, uint64_t seed) noexcept { return XXH64(text.data(), text.size(), seed); }

}  // namespace fettle
