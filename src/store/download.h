// Downloads that survive a cut: target.part holds the bytes, target.part.json what they belong to. Private to store.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "store/http.h"
#include "store/store.h"

namespace fettle {

struct DownloadOptions {
  std::string place;   // the source as the user wrote it
  std::string token;   // for the host of the URL
  std::string sha256;  // expected; empty: unknown
  bool hub = false;    // the host tells a file's SHA-256 as X-Linked-Etag
  bool gguf = true;    // what comes must open as one; else it is part of a folder, which is looked at as a whole
  Retry retry;
  std::function<void(uint64_t done, uint64_t total)> progress;
};

// Fetches `url` to `target` and installs it. Error{failed}, HttpError; what the progress callback throws (the part is kept).
void download(const std::string& url, const fs::path& target, const DownloadOptions& options);

// The last step of every way here: `file` must have the digest (when known) and open as a GGUF (gguf: false, anything will do), then it is
// flushed and renamed to `target`. What does not pass is removed and said.
void install(const fs::path& file, const fs::path& target, const std::string& sha256, const std::string& place, bool gguf = true);

bool is_sha256(std::string_view text);  // in small letters

// Error{failed} when the disk of `path` has not this much room.
void check_space(const fs::path& path, uint64_t bytes, const std::string& place);

}  // namespace fettle
