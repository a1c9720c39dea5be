// Models on this machine. A model is a folder models/NAME/VERSION/ with model.gguf and card.json; a row in fettle.db says that it is there.
// The folder is filled under another name, flushed, and renamed whole inside the transaction that adds the row. So a process killed at any
// point leaves either nothing, or a whole folder without a row, which doctor adopts by its card; never a row without its file, never half
// a file under a model's name. Several processes may add and remove at once: SQLite's write lock orders them.
// Not handled: a home on a network file system without locks.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>

#include "pipeline/names.h"
#include "pipeline/pipeline.h"
#include "pipeline/sql.h"

namespace fettle {
namespace {

constexpr int kSchema = 1;
constexpr const char* kTables =
    "CREATE TABLE IF NOT EXISTS models(name TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, digest TEXT NOT NULL,"
    " created TEXT NOT NULL, bytes INTEGER NOT NULL, recipe TEXT NOT NULL, PRIMARY KEY(name, version));"
    "CREATE TABLE IF NOT EXISTS versions(name TEXT PRIMARY KEY, last INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS tags(tag TEXT PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL);"
    "PRAGMA user_version = 1";
constexpr const char* kColumns = "SELECT name, version, state, digest, created, bytes, recipe FROM models ";

fs::path models_folder() { return fettle_home() / "models"; }
fs::path version_folder(const std::string& name, int version) { return models_folder() / name / std::to_string(version); }

// ".incoming-PID-N" and ".removed-PID-N": not yet, and no longer, a model.
fs::path passing_folder(const char* word) {
  static std::atomic<int> count{0};
  return models_folder() / ("." + std::string(word) + "-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
}

void flush_folder(const fs::path& folder) {
  int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

void rename_or_fail(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) throw failed(to.string(), "could not be put in place: " + error.message());
}

// Copies and digests in one pass. Files below our own home are hard links: fettle replaces files by renaming, never in place.
std::string take_in(const fs::path& source, const fs::path& target) {
  std::error_code error;
  const fs::path home = fs::weakly_canonical(fettle_home(), error), from = fs::weakly_canonical(source, error);
  const bool ours = std::mismatch(home.begin(), home.end(), from.begin(), from.end()).first == home.end();
  if (ours && (fs::create_hard_link(from, target, error), !error)) return sha256_file(target);
  MappedFile file(source);
  AtomicFile out(target);
  Sha256 digest;
  constexpr size_t kPiece = 4u << 20;
  for (size_t at = 0; at < file.bytes().size(); at += kPiece) {
    stop_if_interrupted();
    auto piece = file.bytes().subspan(at, std::min(kPiece, file.bytes().size() - at));
    digest.update(piece);
    out.write(piece);
  }
  out.commit();
  return digest.hex();
}

Json card_of(const ModelRecord& record) {
  return {{"name", record.name},       {"version", record.version}, {"state", record.state},  {"digest", record.digest},
          {"created", record.created}, {"bytes", record.bytes},     {"recipe", record.recipe}};
}

// nullopt: no card, or one that does not fit the folder it lies in.
std::optional<ModelRecord> read_card(const std::string& name, int version) {
  const fs::path folder = version_folder(name, version);
  std::error_code error;
  if (!fs::is_regular_file(folder / "card.json", error) || !fs::is_regular_file(folder / "model.gguf", error)) return std::nullopt;
  Json card = Json::parse(read_text(folder / "card.json"), nullptr, false);
  if (!card.is_object()) return std::nullopt;
  try {
    ModelRecord record{name,
                       version,
                       folder / "model.gguf",
                       card.at("state"),
                       card.at("digest"),
                       card.at("created"),
                       card.at("bytes"),
                       card.value("recipe", Json())};
    if (card.at("name") != name || card.at("version") != version || fs::file_size(record.path) != record.bytes) return std::nullopt;
    return record;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

// Folders models/NAME/VERSION whose names can be a model's.
std::vector<std::pair<std::string, int>> folders_on_disk() {
  std::vector<std::pair<std::string, int>> found;
  std::error_code error;
  for (const auto& name : fs::directory_iterator(models_folder(), error)) {
    if (!valid_model_name(name.path().filename().string()) || !name.is_directory(error)) continue;
    for (const auto& version : fs::directory_iterator(name.path(), error))
      if (int number = version_number(version.path().filename().string())) found.emplace_back(name.path().filename().string(), number);
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool process_lives(int pid) { return ::kill(pid, 0) == 0 || errno != ESRCH; }

}  // namespace

struct Registry::State {
  Sql sql{(fs::create_directories(models_folder()), fettle_home() / "fettle.db")};

  ModelRecord record(const Query& row) const {
    ModelRecord r{row.text(0),
                  int(row.integer(1)),
                  {},
                  row.text(2),
                  row.text(3),
                  row.text(4),
                  uint64_t(row.integer(5)),
                  Json::parse(row.text(6), nullptr, false)};
    r.path = version_folder(r.name, r.version) / "model.gguf";
    if (r.recipe.is_discarded()) r.recipe = Json();
    return r;
  }
  std::vector<ModelRecord> select(const std::string& where, const std::string& name = {}, int version = 0) const {
    Query row(sql, kColumns + where);
    if (!name.empty()) row.bind(name);
    if (version) row.bind(int64_t(version));
    std::vector<ModelRecord> found;
    while (row.step()) found.push_back(record(row));
    return found;
  }
  void insert(const ModelRecord& r) {
    Query row(sql, "INSERT OR REPLACE INTO models VALUES(?, ?, ?, ?, ?, ?, ?)");
    row.bind(r.name).bind(int64_t(r.version)).bind(r.state).bind(r.digest).bind(r.created).bind(int64_t(r.bytes));
    row.bind(r.recipe.dump(-1, ' ', false, Json::error_handler_t::replace)).step();
    Query(sql, "INSERT INTO versions VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET last = max(last, excluded.last)")
        .bind(r.name)
        .bind(int64_t(r.version))
        .step();
  }
  void erase(const ModelRecord& r) {
    Query(sql, "DELETE FROM models WHERE name = ? AND version = ?").bind(r.name).bind(int64_t(r.version)).step();
    Query(sql, "DELETE FROM tags WHERE name = ? AND version = ?").bind(r.name).bind(int64_t(r.version)).step();
  }
  int next_version(const std::string& name) const {
    Query row(sql, "SELECT last FROM versions WHERE name = ?");
    int last = row.bind(name).step() ? int(row.integer(0)) : 0;
    std::error_code error;  // a folder without a row keeps its number too
    for (const auto& entry : fs::directory_iterator(models_folder() / name, error))
      last = std::max(last, version_number(entry.path().filename().string()));
    return last + 1;
  }
  std::optional<ModelRecord> tagged(const std::string& tag) const {
    Query row(sql, "SELECT name, version FROM tags WHERE tag = ?");
    if (!row.bind(tag).step()) return std::nullopt;
    auto found = select("WHERE name = ? AND version = ?", row.text(0), int(row.integer(1)));
    return found.empty() ? std::nullopt : std::optional(found[0]);
  }
  void check_folders(bool mend, std::vector<std::string>& said);
  void check_rows(bool mend, bool digests, std::vector<std::string>& said);
  static void check_leftovers(bool mend, std::vector<std::string>& said);
};

Registry::Registry() : state_(std::make_unique<State>()) {
  // the statement must be over before a transaction begins: a reader that turns writer is refused where another process wrote meanwhile
  const auto schema = [&] {
    Query version(state_->sql, "PRAGMA user_version");
    version.step();
    return version.integer(0);
  };
  if (const int64_t found = schema(); found > kSchema) {
    throw refused((fettle_home() / "fettle.db").string(), "was written by a newer fettle (schema " + std::to_string(found) + ")",
                  "update fettle, or set FETTLE_HOME to another folder");
  } else if (found < kSchema) {
    state_->sql.transaction([&] { state_->sql.run(kTables); });  // harmless when another process was faster
  }
}

Registry::~Registry() = default;

ModelRecord Registry::add(const std::string& name, const fs::path& gguf, const std::string& state, const Json& recipe) {
  require_model_name(name);
  const fs::path staging = passing_folder("incoming");
  fs::create_directories(staging);
  struct Cleaner {
    fs::path folder;
    ~Cleaner() {
      std::error_code error;
      fs::remove_all(folder, error);
    }
  } cleaner{staging};
  ModelRecord record{name, 0, {}, state, take_in(gguf, staging / "model.gguf"), utc_timestamp(), 0, recipe};
  record.bytes = fs::file_size(staging / "model.gguf");
  state_->sql.transaction([&] {
    record.version = state_->next_version(name);
    record.path = version_folder(name, record.version) / "model.gguf";
    write_text(staging / "card.json", card_of(record).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    flush_folder(staging);
    fs::create_directories(models_folder() / name);
    rename_or_fail(staging, version_folder(name, record.version));
    flush_folder(models_folder() / name);
    state_->insert(record);
  });
  return record;
}

std::vector<ModelRecord> Registry::list() const { return state_->select("ORDER BY name, version"); }

std::vector<Registry::Tag> Registry::tags() const {
  std::vector<Tag> found;
  Query row(state_->sql, "SELECT tag, name, version FROM tags ORDER BY tag");
  while (row.step()) found.push_back({row.text(0), row.text(1) + ":" + std::to_string(row.integer(2))});
  return found;
}

std::optional<ModelRecord> Registry::find(const std::string& name_or_label) const {
  if (auto tagged = state_->tagged(name_or_label)) return tagged;
  const size_t colon = name_or_label.rfind(':');
  std::vector<ModelRecord> found;
  if (colon == std::string::npos) {
    found = state_->select("WHERE name = ? AND state IN ('ready', 'base') ORDER BY version DESC LIMIT 1", name_or_label);
  } else if (int version = version_number(name_or_label.substr(colon + 1))) {
    found = state_->select("WHERE name = ? AND version = ?", name_or_label.substr(0, colon), version);
  }
  return found.empty() ? std::nullopt : std::optional(found[0]);
}

ModelRecord Registry::removable(const std::string& name_or_label) const {
  if (auto tagged = state_->tagged(name_or_label)) return *tagged;
  std::vector<ModelRecord> found;
  if (name_or_label.find(':') == std::string::npos && valid_model_name(name_or_label)) {
    found = state_->select("WHERE name = ? ORDER BY version", name_or_label);
    if (found.size() > 1)
      throw usage(name_or_label + " has " + std::to_string(found.size()) + " versions", "say which: `fettle rm " + found[0].label() + "`");
  } else if (auto one = find(name_or_label)) {
    found = {*one};
  }
  if (found.empty()) throw usage("there is no model '" + name_or_label + "' on this machine", "`fettle list` shows what there is");
  return found[0];
}

void Registry::remove(const std::string& name_or_label) {
  const ModelRecord found = removable(name_or_label);
  if (state_->tagged(name_or_label)) {
    Query(state_->sql, "DELETE FROM tags WHERE tag = ?").bind(name_or_label).step();
    return;
  }
  const fs::path away = passing_folder("removed");
  state_->sql.transaction([&] {
    std::error_code error;
    fs::rename(found.path.parent_path(), away, error);  // absent already: fine
    state_->erase(found);
  });
  std::error_code error;
  fs::remove_all(away, error);
  fs::remove(models_folder() / found.name, error);  // only when empty
}

void Registry::tag(const std::string& from, const std::string& to) {
  auto record = find(from);
  if (!record) throw usage("there is no model '" + from + "' on this machine", "`fettle list` shows what there is");
  const size_t colon = to.find(':');
  require_model_name(to.substr(0, colon));
  if (colon != std::string::npos) {
    require_model_name(to.substr(colon + 1));
    if (version_number(to.substr(colon + 1))) throw usage("'" + to + "' reads as a version, not as a tag", "tags are words: tickets:live");
  } else if (!state_->select("WHERE name = ? LIMIT 1", to).empty()) {
    throw usage("'" + to + "' is a model's name already", "choose another tag, for example " + to + ":live");
  }
  Query(state_->sql, "INSERT OR REPLACE INTO tags VALUES(?, ?, ?)").bind(to).bind(record->name).bind(int64_t(record->version)).step();
}

void Registry::State::check_folders(bool mend, std::vector<std::string>& said) {
  for (const auto& [name, version] : folders_on_disk()) {
    if (!select("WHERE name = ? AND version = ?", name, version).empty()) continue;
    const std::string label = name + ":" + std::to_string(version);
    auto card = read_card(name, version);
    if (!card || sha256_file(card->path) != card->digest) {
      said.push_back(version_folder(name, version).string() + " holds no whole model and has no row: delete the folder");
    } else if (mend) {
      sql.transaction([&, record = *card] { insert(record); });
      said.push_back(label + " had a file but no row: the row is there again");
    } else {
      said.push_back(label + " has a file but no row: `fettle doctor --mend` adds it");
    }
  }
}

void Registry::State::check_rows(bool mend, bool digests, std::vector<std::string>& said) {
  for (const ModelRecord& record : select("ORDER BY name, version")) {
    stop_if_interrupted();
    std::error_code error;
    if (!fs::is_regular_file(record.path, error)) {
      said.push_back(record.label() + " has a row but no file" + (mend ? ": the row is removed" : ": `fettle doctor --mend` removes it"));
      if (mend) sql.transaction([&] { erase(record); });
    } else if (fs::file_size(record.path, error) != record.bytes || (digests && sha256_file(record.path) != record.digest)) {
      if (record.state == "damaged") {
        said.push_back(record.label() + " is damaged: `fettle rm " + record.label() + "`");
        continue;
      }
      said.push_back(record.label() + " is not what was stored (" + record.path.string() + ")" +
                     (mend ? ": marked as damaged" : ": remove it and make or pull it again"));
      ModelRecord marked = record;
      marked.state = "damaged";
      if (mend) sql.transaction([&] { insert(marked); });
    }
  }
}

// ".incoming-PID-N" of a process that is gone.
void Registry::State::check_leftovers(bool mend, std::vector<std::string>& said) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(models_folder(), error)) {
    const std::string name = entry.path().filename().string();
    const size_t dash = name.find('-');
    if (name[0] != '.' || dash == std::string::npos) continue;
    int pid = 0;
    std::from_chars(name.data() + dash + 1, name.data() + name.size(), pid);
    if (pid <= 0 || process_lives(pid)) continue;
    said.push_back(entry.path().string() + " was left by a process that was stopped" +
                   (mend ? ": removed" : ": `fettle doctor --mend` removes it"));
    if (mend) fs::remove_all(entry.path(), error);
  }
}

std::vector<std::string> Registry::check(bool mend, bool digests) {
  std::vector<std::string> said;
  State::check_leftovers(mend, said);
  state_->check_rows(mend, digests, said);
  state_->check_folders(mend, said);
  return said;
}

}  // namespace fettle
