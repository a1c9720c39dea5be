// Finding a file on a hub: the API lists a revision's files with their digests, /resolve/ hands them out. Base address from $HF_ENDPOINT,
// token from $HF_TOKEN. Names are checked on the way in and escaped on the way out. Not handled: models split over several GGUF files.
#include "store/hub.h"

#include <algorithm>
#include <cstdlib>

#include "base/json_text.h"

namespace fettle {
namespace {

constexpr size_t kMaxListing = 32u << 20, kMaxNamed = 12;
// what one wants of several files of one model: small, but not at the cost of what it says
constexpr const char* kPreferred[] = {"q4_k_m", "q4_k_s", "q4_1", "iq4_nl", "iq4_xs", "q4_0",   "q5_k_m",
                                      "q5_k_s", "q6_k",   "q8_0", "f16",    "bf16",   "q3_k_m", "f32"};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::string(trim(value)) : "";
}

std::string endpoint() {
  std::string base = variable("HF_ENDPOINT");
  if (base.empty()) base = "https://huggingface.co";
  while (base.ends_with('/')) base.pop_back();
  return base;
}

bool plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 96 && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), [](char c) { return std::isalnum(uint8_t(c)) || c == '-' || c == '_' || c == '.'; });
}

// No part of the path may be empty, "." or ".."; no control characters, no backslash.
bool safe_path(std::string_view path) {
  if (path.empty() || path.size() > 1024 || !valid_utf8(path)) return false;
  for (char c : path)
    if (uint8_t(c) < 32 || c == 127 || c == '\\') return false;
  for (const auto& part : split(path, '/'))
    if (part.empty() || part == "." || part == "..") return false;
  return true;
}

std::string escape_path(const std::string& path) {
  std::string out;
  for (const auto& part : split(path, '/')) out += (out.empty() ? "" : "/") + url_escape(part);
  return out;
}

struct Candidate {
  std::string name, sha256;
};

bool is_model(const std::string& name) {
  std::string n = lower(name);
  return n.ends_with(".gguf") && n.find("mmproj") == n.npos && n.find("imatrix") == n.npos && n.find("-of-0") == n.npos && safe_path(name);
}

std::vector<Candidate> ggufs_of(const nlohmann::json& listing) {
  std::vector<Candidate> files;
  auto siblings = listing.is_object() ? listing.find("siblings") : listing.end();
  if (siblings == listing.end() || !siblings->is_array()) return files;
  for (const auto& s : *siblings) {
    if (!s.is_object() || !s.contains("rfilename") || !s["rfilename"].is_string() || !is_model(s["rfilename"])) continue;
    Candidate c{s["rfilename"], ""};
    if (auto lfs = s.find("lfs"); lfs != s.end() && lfs->is_object() && lfs->contains("sha256") && (*lfs)["sha256"].is_string())
      c.sha256 = (*lfs)["sha256"];
    if (c.sha256.size() != 64) c.sha256.clear();
    files.push_back(std::move(c));
  }
  return files;
}

// "q4_k_m" in "Model-Q4_K_M.gguf", not in "Model-Q4_K_M_L.gguf" or "IQ4_K_M".
bool has_word(const std::string& name, std::string_view word) {
  std::string n = lower(name);
  auto letter = [&](size_t at) { return at < n.size() && (std::isalnum(uint8_t(n[at])) || n[at] == '_'); };
  for (size_t at = n.find(word); at != n.npos; at = n.find(word, at + 1))
    if ((at == 0 || !letter(at - 1)) && !letter(at + word.size())) return true;
  return false;
}

const Candidate& choose(const std::vector<Candidate>& files, const HubSource& source, const std::string& place) {
  if (files.empty())
    throw refused(place, "the repository has no GGUF file that fettle can use (split ones are not)",
                  "look for one whose name ends in -GGUF, or convert the model with fettle convert");
  if (files.size() == 1) return files[0];
  for (const char* word : kPreferred) {
    auto fits = [&](const Candidate& c) { return has_word(c.name, word); };
    auto it = std::find_if(files.begin(), files.end(), fits);
    if (it != files.end() && std::find_if(it + 1, files.end(), fits) == files.end()) return *it;
  }
  std::string names;
  for (size_t i = 0; i < std::min(files.size(), kMaxNamed); i++) names += (i ? ", " : "") + printable(files[i].name, 100);
  if (files.size() > kMaxNamed) names += ", and " + std::to_string(files.size() - kMaxNamed) + " more";
  throw refused(place, "the repository has several GGUF files: " + names, "name one: hf:" + source.repo + ":FILE");
}

}  // namespace

HubSource parse_hub_source(const std::string& text, const std::string& place) {
  HubSource source;
  std::string rest = text;
  if (size_t colon = rest.find(':'); colon != rest.npos) {
    source.file = rest.substr(colon + 1);
    rest.resize(colon);
    if (!safe_path(source.file)) throw refused(place, "the file's name is malformed", "write hf:org/repo[@revision][:file]");
  }
  if (size_t at = rest.find('@'); at != rest.npos) {
    source.revision = rest.substr(at + 1);
    rest.resize(at);
    if (!safe_path(source.revision)) throw refused(place, "the revision is malformed", "write hf:org/repo[@revision][:file]");
  }
  auto parts = split(rest, '/');
  if (parts.size() != 2 || !plain_name(parts[0]) || !plain_name(parts[1]))
    throw refused(place, "is no repository on a hub", "write hf:org/repo[@revision][:file]");
  source.repo = rest;
  return source;
}

HubFile find_hub_file(const HubSource& source, const std::string& place, const Retry& retry, const std::function<void()>& idle) {
  std::string base = endpoint(), revision = source.revision, file = source.file, sha256;
  HubFile found{.token = variable("HF_TOKEN")};
  if (file.empty()) {
    HttpRequest request{.url = base + "/api/models/" + source.repo + "/revision/" + url_escape(revision) + "?blobs=true",
                        .place = place,
                        .token = found.token};
    request.on_idle = idle;
    std::string text;
    with_retries(retry, idle, [&] { text = http_text(request, kMaxListing); }, {});
    nlohmann::json listing = parse_json(text, place + ": the hub's list of files");
    auto files = ggufs_of(listing);
    const Candidate& chosen = choose(files, source, place);
    file = chosen.name;
    sha256 = chosen.sha256;
    // the commit that the list belongs to, so that list and file cannot disagree
    if (auto sha = listing.find("sha"); sha != listing.end() && sha->is_string() && plain_name(sha->get_ref<const std::string&>()))
      revision = *sha;
  }
  found.url = base + "/" + source.repo + "/resolve/" + url_escape(revision) + "/" + escape_path(file);
  found.sha256 = sha256;
  return found;
}

}  // namespace fettle
