// Model files of every kind, and what they consist of.
#include <algorithm>

#include "model/hf_folder.h"
#include "store/folder.h"

namespace fettle {

Gguf open_model_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) ? open_hf_folder(path) : Gguf(path);
}

std::vector<fs::path> model_files(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return Gguf(path).paths();
  std::vector<fs::path> files;
  for (const char* name : model_folder_files())
    if (fs::is_regular_file(path / name, ignored)) files.push_back(path / name);
  for (fs::path& weights : safetensors_files(path)) files.push_back(std::move(weights));
  std::sort(files.begin(), files.end());
  return files;
}

uint64_t model_bytes(const fs::path& path) {
  uint64_t bytes = 0;
  for (const fs::path& file : model_files(path)) bytes += fs::file_size(file);
  return bytes;
}

std::string model_digest(const fs::path& path) {
  const std::vector<fs::path> files = model_files(path);
  if (files.size() == 1) return sha256_file(files[0]);
  const fs::path base = fs::is_directory(path) ? path : path.parent_path();
  std::string lines;
  for (const fs::path& file : files) lines += sha256_file(file) + "  " + file.lexically_relative(base).string() + "\n";
  return sha256_hex(lines);
}

}  // namespace fettle
