// Digests against published values (FIPS 180-2 appendix B; xxHash's XXH64 of nothing and of "abc").
#include "base/hash.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

namespace fettle {
namespace {

TEST(Hash, Sha256PublishedValues) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Hash, PiecesFilesAndMoves) {
  std::string text(3'000'001, 'q');
  Sha256 first;
  first.update(std::as_bytes(std::span(text.data(), 1234)));
  Sha256 digest = std::move(first);
  digest.update(std::as_bytes(std::span(text.data() + 1234, text.size() - 1234)));
  fs::path path = testing::TempDir() + "fettle-hash-" + std::to_string(::getpid());
  write_text(path, text);
  EXPECT_EQ(digest.hex(), sha256_hex(text));
  EXPECT_EQ(sha256_file(path), sha256_hex(text));
  fs::remove(path);
  EXPECT_THROW(sha256_file(path), Error);
  EXPECT_THROW(sha256_file("/"), Error);
}

TEST(Hash, Hash64PublishedValues) {
  EXPECT_EQ(hash64(std::string_view()), 0xef46db3751d8e999ULL);
  EXPECT_EQ(hash64("abc"), 0x44bc2cf5ad770999ULL);
  EXPECT_NE(hash64("abc", 1), hash64("abc"));
}

TEST(HashDeathTest, EndedDigest) {
  Sha256 digest;
  digest.hex();
  EXPECT_DEATH(digest.hex(), "hash.cc:[0-9]+: CHECK failed: state_: the digest has ended");
}

}  // namespace
}  // namespace fettle
