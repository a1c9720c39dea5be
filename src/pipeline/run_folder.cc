// Run folders: runs are long and get interrupted, so what is finished is remembered with the digests of what it came from.
#include <algorithm>

#include "pipeline/names.h"
#include "pipeline/stage.h"

namespace fettle {
namespace {

// 2026-11-24T15:04:05Z -> 20261124-150405
std::string stamp() {
  std::string text;
  for (char c : utc_timestamp())
    if (c >= '0' && c <= '9')
      text += c;
    else if (c == 'T')
      text += '-';
  return text;
}

fs::path newest_run(const std::string& name) {
  const fs::path runs = fettle_home() / "runs";
  std::error_code error;
  fs::path newest;
  for (const auto& entry : fs::directory_iterator(runs, error)) {
    const std::string folder = entry.path().filename().string();
    const bool same = folder.size() > name.size() + 8 && folder.starts_with(name + "-") &&
                      folder.find_first_not_of("0123456789-", name.size()) == std::string::npos;
    if (same && fs::exists(entry.path() / "run.json", error) && entry.path() > newest) newest = entry.path();
  }
  if (newest.empty())
    throw refused(runs.string(), "holds no run of " + name + " to go on with", "start it without --resume, or name its folder with --out");
  return newest;
}

fs::path fresh_run(const std::string& name) {
  fs::path path = fettle_home() / "runs" / (name + "-" + stamp());
  std::error_code error;
  for (int i = 2; fs::exists(path, error); i++) path = fettle_home() / "runs" / (name + "-" + stamp() + "-" + std::to_string(i));
  return path;
}

// Nothing in it but what a run that was killed at once leaves.
bool unused(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) return false;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().filename() != "lock") return false;
  return !error;
}

}  // namespace

RunFolder::RunFolder(const fs::path& wanted, const std::string& kind, const std::string& name, const StageContext& context) {
  const std::string short_name = name_from(name);
  path_ = !wanted.empty() ? wanted : context.resume ? newest_run(short_name) : fresh_run(short_name);
  std::error_code error;
  const bool there = fs::exists(path_, error) && !unused(path_);
  const bool ours = fs::is_regular_file(path_ / "run.json", error);
  if (!ours && context.resume) throw refused(path_.string(), "holds no run to go on with", "start it without --resume");
  if (there && !ours) throw refused(path_.string(), "is there already and is no run of fettle's", "name another folder with --out");
  if (there && !context.force && !context.resume)
    throw refused(path_.string(), "a run is there already", "--resume goes on with it, --force starts it anew");
  made_ = !there;
  fs::create_directories(path_);
  lock_ = std::make_unique<FileLock>(path_ / "lock");
  if (ours && !context.force) {
    state_ = Json::parse(read_text(path_ / "run.json"), nullptr, false);
    if (!state_.is_object() || state_.value("kind", "") != kind || !state_.contains("stages") || !state_["stages"].is_object())
      throw refused((path_ / "run.json").string(), "is not the state of a " + kind + " run", "--force starts it anew");
    resumed_ = true;
    return;
  }
  for (const auto& entry : fs::directory_iterator(path_))
    if (entry.path().filename() != "lock") fs::remove_all(entry.path());
  state_ = {{"kind", kind}, {"name", name}, {"command", context.command}, {"created", utc_timestamp()}, {"stages", Json::object()}};
  try {
    save();
  } catch (const Error&) {  // a full disk
    if (made_) fs::remove_all(path_, error);
    throw;
  }
}

RunFolder::~RunFolder() {
  if (!holds_nothing()) return;
  lock_.reset();
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

bool RunFolder::holds_nothing() const {
  if (!made_ || !state_.is_object() || !state_.at("stages").empty()) return false;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(path_, ignored)) {
    const fs::path name = entry.path().filename();
    if (name != "run.json" && name != "lock" && !(name == "metrics.jsonl" && fs::is_empty(entry.path(), ignored))) return false;
  }
  return true;
}

void RunFolder::save() const { write_text(path_ / "run.json", state_.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"); }

void RunFolder::require_same(const std::string& stage, const std::string& key) const {
  const auto has = [&](const Json& made) { return made.is_object() && made.value("key", key) != key; };
  const bool other = has(state_["stages"].value(stage, Json())) ||
                     (state_.contains("running") && state_["running"].value("stage", "") == stage && has(state_["running"]));
  if (other)
    throw refused(path_.string(), "this run has another base, other data or other options than the command names",
                  "--resume with its own goes on with it; --force starts it anew; --out names another folder");
}

bool RunFolder::begin(const std::string& stage, const std::string& key) {
  const bool same = state_.contains("running") && state_["running"] == Json{{"stage", stage}, {"key", key}};
  state_["running"] = {{"stage", stage}, {"key", key}};
  save();
  return same;
}

std::optional<Json> RunFolder::done(const std::string& stage, const std::string& key) const {
  const Json& stages = state_["stages"];
  if (!stages.contains(stage) || stages[stage].value("key", "") != key) return std::nullopt;
  for (const auto& [name, digest] : stages[stage]["outputs"].items()) {
    std::error_code error;
    if (!fs::is_regular_file(path_ / name, error) || digest != Json(sha256_file(path_ / name))) return std::nullopt;
  }
  return stages[stage]["result"];
}

void RunFolder::record(const std::string& stage, const std::string& key, const Json& result, const std::vector<std::string>& outputs) {
  Json digests = Json::object();
  for (const std::string& name : outputs) digests[name] = sha256_file(path_ / name);
  state_["stages"][stage] = {{"key", key}, {"ended", utc_timestamp()}, {"outputs", digests}, {"result", result}};
  if (state_.contains("running") && state_["running"]["stage"] == stage) state_.erase("running");
  save();
}

std::string RunFolder::digest(const std::string& stage, const std::string& output) const {
  return state_.at("stages").at(stage).at("outputs").at(output);
}

std::string replay_command(const StageContext& context) {
  std::string text = "fettle";
  for (const std::string& word : context.command)
    if (word != "--force" && word != "-f" && word != "--resume") text += " " + shell_quoted(word);
  return text;
}

static bool names_output(const std::string& word) { return word == "--out" || word == "-o" || word.starts_with("--out="); }

std::string fresh_command(const StageContext& context) {
  StageContext fresh = context;
  std::vector<std::string>& words = fresh.command;
  for (auto word = words.begin(); word != words.end();) {
    const bool value_follows = names_output(*word) && !word->starts_with("--out=") && word + 1 != words.end();
    if (names_output(*word) || *word == "--json")
      word = words.erase(word, word + (value_follows ? 2 : 1));
    else
      word++;
  }
  return replay_command(fresh);
}

std::string RunFolder::resume_command(const StageContext& context) const {
  const bool out = std::any_of(context.command.begin(), context.command.end(), names_output);
  return replay_command(context) + (out ? "" : " --out " + shell_quoted(path_.string())) + " --resume";
}

std::string RunFolder::way_on(const StageContext& context) const {
  return holds_nothing() ? "nothing was done yet, so nothing is kept; the same command starts anew"
                         : "what is done is kept; go on with: " + resume_command(context);
}

std::string digest_of(const Json& inputs) { return sha256_hex(inputs.dump(-1, ' ', false, Json::error_handler_t::replace)); }

}  // namespace fettle
