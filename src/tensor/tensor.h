// Room tensor: what a weight is (format, shape, bytes) and where activations live (arenas). No arithmetic here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace fettle {

struct Format;  // format/format.h

// Outermost dimension first, as PyTorch writes it; the last one is contiguous in memory (GGUF's ne[0]).
struct Shape {
  int n = 0;
  int64_t dim[4] = {1, 1, 1, 1};
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    for (int64_t d : dims) dim[n++] = d;
  }
  int64_t cols() const { return n ? dim[n - 1] : 1; }
  int64_t rows() const {
    int64_t r = 1;
    for (int i = 0; i + 1 < n; i++) r *= dim[i];
    return r;
  }
  int64_t count() const { return rows() * cols(); }
  bool operator==(const Shape&) const = default;
  std::string text() const;  // "576 x 1536"
};

// A view: the bytes belong to a mapped file or an arena that outlives it.
struct Tensor {
  const Format* format = nullptr;
  Shape shape;
  std::span<const std::byte> bytes;
  explicit operator bool() const { return format != nullptr; }
};

// Bump allocation in large blocks, 64-byte aligned; nothing is freed one by one. release(mark()) frees everything allocated since.
class Arena {
 public:
  explicit Arena(size_t block_bytes = size_t(16) << 20) : block_bytes_(block_bytes) {}
  ~Arena();
  Arena(Arena&&) noexcept = default;
  Arena& operator=(Arena&&) noexcept = default;
  // Uninitialised. Error{failed} when there is no memory.
  void* bytes(size_t n);
  template <class T>
  T* get(size_t n) {
    return static_cast<T*>(bytes(n <= SIZE_MAX / sizeof(T) ? n * sizeof(T) : SIZE_MAX));
  }
  struct Mark {
    size_t block = 0, used = 0;
  };
  Mark mark() const { return {current_, used_}; }
  void release(Mark m) {
    current_ = m.block;
    used_ = m.used;
  }
  void reset() { release({}); }
  size_t reserved_bytes() const;

 private:
  struct Block {
    std::unique_ptr<std::byte, void (*)(void*)> data;
    size_t size;
  };
  void add_block(size_t n);
  std::vector<Block> blocks_;
  size_t block_bytes_, current_ = 0, used_ = 0;
};

}  // namespace fettle
