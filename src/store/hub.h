// Model hubs that speak the Hugging Face API. Private to store.
#pragma once
#include <string>
#include <vector>

#include "store/http.h"

namespace fettle {

// "org/repo[@rev][:file]"
struct HubSource {
  std::string repo, revision = "main", file;
};
// Error{refused} naming `place` when malformed.
HubSource parse_hub_source(const std::string& text, const std::string& place);

struct HubFile {
  std::string name, url, token, sha256;  // name: its path in the repository; sha256: empty when the hub did not tell
  uint64_t bytes = 0;                    // 0: the hub did not tell
};
// What a source comes to: one GGUF, or the files of a folder of safetensors, whose weights come last.
struct HubModel {
  bool folder = false;
  std::vector<HubFile> files;
};
// Where it lies. Asks the hub for its list of files when none is named; takes the one GGUF, or the most useful of several, else the folder.
// Error{refused}: there is neither, or weights that are pickled.
HubModel find_hub_model(const HubSource& source, const std::string& place, const Retry& retry, const std::function<void()>& idle);

}  // namespace fettle
