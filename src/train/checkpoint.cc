// Files of a checkpoint: values.f32, first.f32, second.f32 (the optimizer's moments), best.f32 where it differs; little-endian floats, all
// parameters one after another; state.json last. Digests are xxHash64: they find torn and rotten files, not forgers.
#include "train/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>

namespace fettle {
namespace {

using Json = nlohmann::json;
constexpr const char* kKind = "fettle training checkpoint 1";

std::string hex(uint64_t n) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(n));
  return text;
}

void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

void put_in_place(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) throw failed(to.string(), "cannot be put in place: " + error.message());
}

// Every file of the checkpoint and the numbers it holds.
template <class C>
auto files(C& c) {
  return std::vector<std::pair<const char*, decltype(&c.values)>>{
      {"values.f32", &c.values}, {"first.f32", &c.first}, {"second.f32", &c.second}, {"best.f32", &c.best}};
}

Json state_json(const TrainState& s) {
  return {{"step", s.step},
          {"tokens", s.tokens},
          {"seconds", s.seconds},
          {"first_loss", s.first_loss},
          {"last_loss", s.last_loss},
          {"early", s.early},
          {"recent", s.recent},
          {"has_eval", s.has_eval},
          {"best_eval_loss", s.best_eval_loss},
          {"best_step", s.best_step},
          {"without_improvement", s.without_improvement},
          {"stopped_because", s.stopped_because}};
}

TrainState state_from(const Json& j) {
  TrainState s;
  j.at("step").get_to(s.step);
  j.at("tokens").get_to(s.tokens);
  j.at("seconds").get_to(s.seconds);
  j.at("first_loss").get_to(s.first_loss);
  j.at("last_loss").get_to(s.last_loss);
  j.at("early").get_to(s.early);
  j.at("recent").get_to(s.recent);
  j.at("has_eval").get_to(s.has_eval);
  j.at("best_eval_loss").get_to(s.best_eval_loss);
  j.at("best_step").get_to(s.best_step);
  j.at("without_improvement").get_to(s.without_improvement);
  j.at("stopped_because").get_to(s.stopped_because);
  return s;
}

// Throws whatever the library throws, or Error; the caller reports both alike.
Checkpoint load(const fs::path& at) {
  Json j = Json::parse(read_text(at / "state.json"));
  const std::string digest = j.at("digest").get<std::string>();
  j.erase("digest");
  if (j.at("kind") != kKind) throw refused(at.string(), "is no training checkpoint of this version");
  if (hex(hash64(j.dump())) != digest) throw refused((at / "state.json").string(), "does not match its digest");
  Checkpoint c;
  c.state = state_from(j.at("state"));
  j.at("identity").get_to(c.identity);
  int64_t n = 0;
  for (const Json& p : j.at("parameters")) {
    c.parameters.emplace_back(p.at(0).get<std::string>(), p.at(1).get<int64_t>());
    n += c.parameters.back().second;
  }
  for (const auto& [name, numbers] : files(c)) {
    const Json& entry = j.at("files").at(name);
    const MappedFile file(at / name);
    const uint64_t bytes = entry.at("bytes").get<uint64_t>();
    const bool empty = std::strcmp(name, "best.f32") == 0 && bytes == 0;
    if (file.bytes().size() != bytes || (!empty && bytes != uint64_t(n) * 4) || entry.at("digest") != Json(hex(hash64(file.bytes()))))
      throw refused((at / name).string(), "does not match its digest");
    numbers->resize(bytes / 4);
    if (bytes) std::memcpy(numbers->data(), file.bytes().data(), bytes);
  }
  return c;
}

}  // namespace

static void save_whole(const fs::path& folder, const Checkpoint& c) {
  const fs::path place = folder / "checkpoint", previous = folder / "checkpoint.previous";
  const fs::path fresh = folder / ("checkpoint.tmp-" + std::to_string(::getpid()));
  std::error_code error;
  fs::remove_all(fresh, error);
  fs::create_directories(fresh, error);
  if (error) throw failed(fresh.string(), "cannot be made: " + error.message());
  Json listed;
  for (const auto& [name, numbers] : files(c)) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(*numbers));
    AtomicFile file(fresh / name);
    file.write(bytes);
    file.commit();
    listed[name] = {{"bytes", bytes.size()}, {"digest", hex(hash64(bytes))}};
  }
  Json parameters = Json::array();
  for (const auto& [name, n] : c.parameters) parameters.push_back({name, n});
  Json j = {{"kind", kKind}, {"state", state_json(c.state)}, {"identity", c.identity}, {"parameters", parameters}, {"files", listed}};
  j["digest"] = hex(hash64(j.dump()));
  write_text(fresh / "state.json", j.dump(1) + "\n");
  if (fs::exists(place)) {
    fs::remove_all(previous, error);
    if (error) throw failed(previous.string(), "cannot be removed: " + error.message());
    put_in_place(place, previous);
  }
  put_in_place(fresh, place);
  sync_folder(folder);
}

void save_checkpoint(const fs::path& folder, const Checkpoint& c) {
  try {
    save_whole(folder, c);
  } catch (const Error& error) {
    clean_checkpoints(folder, false);
    const bool older = fs::exists(folder / "checkpoint") || fs::exists(folder / "checkpoint.previous");
    throw Error(error.code, error.place, error.what(),
                older ? "the checkpoint before this one is kept: --resume goes on from it" : "nothing was saved yet");
  }
}

std::optional<Checkpoint> load_checkpoint(const fs::path& folder) {
  std::string problem;
  for (const char* name : {"checkpoint", "checkpoint.previous"}) {
    const fs::path at = folder / name;
    if (!fs::exists(at)) continue;
    try {
      return load(at);
    } catch (const Error& e) {
      problem += (problem.empty() ? "" : "; ") + e.text();
    } catch (const Json::exception& e) {
      problem += (problem.empty() ? "" : "; ") + (at / "state.json").string() + ": " + e.what();
    }
    warn(at.string() + " is damaged");
  }
  if (problem.empty()) return std::nullopt;
  throw refused(folder.string(), "holds no whole checkpoint: " + problem, "--force starts anew");
}

void clean_checkpoints(const fs::path& folder, bool all) {
  std::error_code error;
  std::vector<fs::path> gone;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("checkpoint.tmp-") || (all && (name == "checkpoint" || name == "checkpoint.previous")))
      gone.push_back(entry.path());
  }
  for (const fs::path& path : gone) fs::remove_all(path, error);
}

}  // namespace fettle
