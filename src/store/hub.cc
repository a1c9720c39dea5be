// Finding a model on a hub: the API lists a revision's files with their digests, /resolve/ hands them out. Base address from $HF_ENDPOINT,
// token from $HF_TOKEN. Names are checked on the way in and escaped on the way out. Not handled: models split over several GGUF files.
#include "store/hub.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <set>

#include "base/json_text.h"
#include "store/download.h"
#include "store/folder.h"

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

bool is_gguf_model(const std::string& name) {
  std::string n = lower(name);
  return n.ends_with(".gguf") && n.find("mmproj") == n.npos && n.find("imatrix") == n.npos && n.find("-of-0") == n.npos;
}

// The repository's files, without those whose names are no paths below a folder.
std::vector<HubFile> files_of(const nlohmann::json& listing) {
  std::vector<HubFile> files;
  auto siblings = listing.is_object() ? listing.find("siblings") : listing.end();
  if (siblings == listing.end() || !siblings->is_array()) return files;
  for (const auto& s : *siblings) {
    if (!s.is_object() || !s.contains("rfilename") || !s["rfilename"].is_string()) continue;
    HubFile f{.name = s["rfilename"].get<std::string>()};
    if (!safe_path(f.name)) continue;
    if (auto size = s.find("size"); size != s.end() && size->is_number_unsigned()) f.bytes = *size;
    if (auto lfs = s.find("lfs"); lfs != s.end() && lfs->is_object() && lfs->contains("sha256") && (*lfs)["sha256"].is_string())
      f.sha256 = lower((*lfs)["sha256"].get_ref<const std::string&>());
    if (!is_sha256(f.sha256)) f.sha256.clear();
    files.push_back(std::move(f));
  }
  return files;
}

const HubFile* find(const std::vector<HubFile>& files, std::string_view name) {
  const auto it = std::ranges::find(files, name, &HubFile::name);
  return it == files.end() ? nullptr : &*it;
}

// "q4_k_m" in "Model-Q4_K_M.gguf", not in "Model-Q4_K_M_L.gguf" or "IQ4_K_M".
bool has_word(const std::string& name, std::string_view word) {
  std::string n = lower(name);
  auto letter = [&](size_t at) { return at < n.size() && (std::isalnum(uint8_t(n[at])) || n[at] == '_'); };
  for (size_t at = n.find(word); at != n.npos; at = n.find(word, at + 1))
    if ((at == 0 || !letter(at - 1)) && !letter(at + word.size())) return true;
  return false;
}

const HubFile& choose(const std::vector<HubFile>& files, const HubSource& source, const std::string& place) {
  if (files.size() == 1) return files[0];
  for (const char* word : kPreferred) {
    auto fits = [&](const HubFile& f) { return has_word(f.name, word); };
    auto it = std::find_if(files.begin(), files.end(), fits);
    if (it != files.end() && std::find_if(it + 1, files.end(), fits) == files.end()) return *it;
  }
  std::string names;
  for (size_t i = 0; i < std::min(files.size(), kMaxNamed); i++) names += (i ? ", " : "") + printable(files[i].name, 100);
  if (files.size() > kMaxNamed) names += ", and " + std::to_string(files.size() - kMaxNamed) + " more";
  throw refused(place, "the repository has several GGUF files: " + names, "name one: hf:" + source.repo + ":FILE");
}

// The names of its weights, as safetensors_files() looks for them. index: asks for the text of the index.
std::set<std::string> weights_of(const std::vector<HubFile>& files, const std::string& place,
                                 const std::function<std::string(const HubFile&)>& index) {
  if (find(files, "model.safetensors")) return {"model.safetensors"};
  if (const HubFile* f = find(files, "model.safetensors.index.json")) {
    const std::set<std::string> shards = shard_names(index(*f), place + ": " + f->name);
    for (const std::string& name : shards)
      if (!find(files, name)) throw refused(place, "the repository's index names " + printable(name, 100) + ", which it has not");
    return shards;
  }
  std::set<std::string> found;
  bool pickle = false;
  for (const HubFile& f : files) {
    if (f.name.find('/') != f.name.npos) continue;
    if (f.name.ends_with(".safetensors") && !f.name.starts_with("adapter_")) found.insert(f.name);
    for (const char* ending : {".bin", ".pt", ".pth"}) pickle |= f.name.ends_with(ending);
  }
  if (found.size() == 1) return found;
  if (found.empty() && pickle)
    throw refused(place, "the repository holds its weights as pickle, which can run code when opened; fettle never opens that",
                  "look for one with safetensors or GGUF");
  throw refused(place, "the repository has " + std::string(found.empty() ? "no" : "several") + " safetensors files and no index of them");
}

// The files of a folder that a model is made of, those of its weights last.
std::vector<HubFile> folder_of(const std::vector<HubFile>& files, const std::string& place,
                               const std::function<std::string(const HubFile&)>& index) {
  std::vector<HubFile> chosen;
  for (const char* name : model_folder_files())
    if (const HubFile* f = find(files, name)) chosen.push_back(*f);
  for (const std::string& name : weights_of(files, place, index)) chosen.push_back(*find(files, name));
  return chosen;
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

HubModel find_hub_model(const HubSource& source, const std::string& place, const Retry& retry, const std::function<void()>& idle) {
  const std::string base = endpoint(), token = variable("HF_TOKEN");
  std::string revision = source.revision;
  const auto located = [&](HubFile file) {
    file.url = base + "/" + source.repo + "/resolve/" + url_escape(revision) + "/" + escape_path(file.name);
    file.token = token;
    return file;
  };
  const auto text_of = [&](const std::string& url) {
    HttpRequest request{.url = url, .place = place, .token = token};
    request.on_idle = idle;
    std::string text;
    with_retries(retry, idle, [&] { text = http_text(request, kMaxListing); }, {});
    return text;
  };
  if (!source.file.empty()) return {false, {located({.name = source.file})}};
  const nlohmann::json listing =
      parse_json(text_of(base + "/api/models/" + source.repo + "/revision/" + url_escape(revision) + "?blobs=true"),
                 place + ": the hub's list of files");
  // the commit that the list belongs to, so that list and files cannot disagree
  if (auto sha = listing.is_object() ? listing.find("sha") : listing.end();
      sha != listing.end() && sha->is_string() && plain_name(sha->get_ref<const std::string&>()))
    revision = *sha;
  std::vector<HubFile> files, ggufs;
  for (const HubFile& f : files_of(listing)) files.push_back(located(f));
  std::ranges::copy_if(files, std::back_inserter(ggufs), is_gguf_model, &HubFile::name);
  if (!ggufs.empty()) return {false, {choose(ggufs, source, place)}};
  if (!find(files, "config.json"))
    throw refused(place, "the repository has no GGUF file that fettle can use (split ones are not) and is no folder of a model",
                  "look for one whose name ends in -GGUF, or that has config.json and *.safetensors");
  return {true, folder_of(files, place, [&](const HubFile& index) { return text_of(index.url); })};
}

}  // namespace fettle
