// Model hubs that speak the Hugging Face API. Private to store.
#pragma once
#include <string>

#include "store/http.h"

namespace fettle {

// "org/repo[@rev][:file]"
struct HubSource {
  std::string repo, revision = "main", file;
};
// Error{refused} naming `place` when malformed.
HubSource parse_hub_source(const std::string& text, const std::string& place);

struct HubFile {
  std::string url, token, sha256;  // sha256: empty when the hub did not tell
};
// Where the source's GGUF lies. Asks the hub for its list of files when none is named, and takes the one GGUF, or the most useful of
// several.
HubFile find_hub_file(const HubSource& source, const std::string& place, const Retry& retry, const std::function<void()>& idle);

}  // namespace fettle
