// Files of examples: the first byte chooses JSONL, JSON or CSV, the rest is the file. Also the checks that run over what was accepted.
#include "text/dataset.h"

#include <fstream>

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fettle::fs::path folder = fettle::fs::temp_directory_path();
  if (size == 0) return 0;
  constexpr const char* kEndings[] = {".jsonl", ".json", ".csv"};
  std::string path = (folder / ("fettle-fuzz-" + std::to_string(::getpid()) + kEndings[data[0] % 3])).string();
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data + 1), std::streamsize(size - 1));
  return fettle::survives([&] {
    fettle::Dataset dataset = fettle::read_dataset(path);
    auto split = fettle::split_dataset(dataset, 0.3, 0);
    (void)fettle::inspect_dataset(dataset, split.train, split.held_out);
  });
}
