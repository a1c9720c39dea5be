// Digests: SHA-256 for identity of models and data, xxHash64 for speed (checkpoints, near-duplicates).
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace fettle {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  void update(std::span<const std::byte> bytes);
  std::string hex();  // 64 characters; ends the digest

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);
std::string sha256_file(const std::filesystem::path& path);
uint64_t hash64(std::span<const std::byte> bytes, uint64_t seed = 0) noexcept;
uint64_t hash64(std::string_view text, uint64_t seed = 0) noexcept;

}  // namespace fettle
