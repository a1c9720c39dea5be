// Models on this machine. A model is a folder models/NAME/VERSION/ with model.gguf (or a folder model) and card.json; a row in fettle.db
// says that it is there. What is added appears whole: the folder is filled under another name, flushed, and renamed inside the transaction
// that adds the row. So a process killed at any point leaves either nothing, or a whole folder without a row, which doctor adopts by its
// card; never half a file under a model's name. What is removed frees its space first, because on a full disk only then there is room to
// take the row out: killed in between, a row without its file is left, and doctor ends what was begun. Several processes may add and remove
// at once: SQLite's write lock orders them. All that the database knows stands in cards and models/tags.json too, so that it can be written
// again. Not handled: a home on a network file system without locks.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "pipeline/names.h"
#include "pipeline/registry_state.h"

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
std::string take_in_file(const fs::path& source, const fs::path& target) {
  std::error_code error;
  const fs::path from = fs::weakly_canonical(source, error);
  const bool ours = lies_within(from, fs::weakly_canonical(fettle_home(), error));
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

// Takes a model in beneath `folder`, and returns its digest.
std::string take_in(const fs::path& source, const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(source, error)) return take_in_file(source, folder / "model.gguf");
  fs::create_directory(folder / "model");
  for (const fs::path& file : model_files(source)) {
    const fs::path target = folder / "model" / file.lexically_relative(source);
    fs::create_directories(target.parent_path());
    take_in_file(file, target);
  }
  flush_folder(folder / "model");
  return model_digest(folder / "model");
}

uint64_t stored_bytes(const fs::path& model) {
  if (!fs::is_directory(model)) return fs::file_size(model);
  uint64_t bytes = 0;
  for (const auto& file : fs::recursive_directory_iterator(model))
    if (file.is_regular_file()) bytes += file.file_size();
  return bytes;
}

// The statement must be over before a transaction begins: a reader that turns writer is refused where another process wrote meanwhile.
int64_t schema_of(const Sql& sql) {
  Query version(sql, "PRAGMA user_version");
  version.step();
  return version.integer(0);
}

ModelRecord record_of(const Query& row) {
  ModelRecord r{row.text(0),
                int(row.integer(1)),
                {},
                row.text(2),
                row.text(3),
                row.text(4),
                uint64_t(row.integer(5)),
                Json::parse(row.text(6), nullptr, false)};
  r.path = model_in(version_folder(r.name, r.version));
  if (r.recipe.is_discarded()) r.recipe = Json();
  return r;
}

// null: there is nothing that can be read.
Json json_in(const fs::path& path) {
  try {
    Json json = Json::parse(read_text(path), nullptr, false);
    return json.is_discarded() ? Json() : json;
  } catch (const Error&) {
    return Json();
  }
}

std::string pretty(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

fs::path database_file() { return fettle_home() / "fettle.db"; }
fs::path models_folder() { return fettle_home() / "models"; }
fs::path version_folder(const std::string& name, int version) { return models_folder() / name / std::to_string(version); }
fs::path model_in(const fs::path& version_folder) {
  std::error_code error;
  return version_folder / (fs::is_directory(version_folder / "model", error) ? "model" : "model.gguf");
}

bool is_what_was_stored(const ModelRecord& record, bool digest) {
  try {
    if (stored_bytes(record.path) != record.bytes) return false;
    return !digest || (fs::is_directory(record.path) ? model_digest(record.path) : sha256_file(record.path)) == record.digest;
  } catch (const Error& error) {
    if (error.code == Exit::interrupted) throw;
    return false;
  } catch (const fs::filesystem_error&) {
    return false;
  }
}

fs::path tags_file() { return models_folder() / "tags.json"; }
fs::path pull_folder() { return fettle_home() / "cache" / "pull"; }

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

Json card_of(const ModelRecord& record) {
  return {{"name", record.name},       {"version", record.version}, {"state", record.state},  {"digest", record.digest},
          {"created", record.created}, {"bytes", record.bytes},     {"recipe", record.recipe}};
}

void write_card(const fs::path& folder, const ModelRecord& record) { write_text(folder / "card.json", pretty(card_of(record))); }

Json read_card(const fs::path& folder) { return json_in(folder / "card.json"); }

Json tags_json(const std::vector<Registry::Tag>& tags) {
  Json json = Json::object();
  for (const Registry::Tag& tag : tags) json[tag.name] = tag.label;
  return json;
}

Json saved_tags() {
  std::error_code error;
  return fs::exists(tags_file(), error) ? json_in(tags_file()) : Json::object();
}

Registry::State::State() {
  // asked for first: what adds a folder has made the database before
  const bool models = !folders_on_disk().empty();
  const fs::path path = database_file();
  std::error_code error;
  if (fs::exists(path, error)) {
    sql = std::make_unique<Sql>(path);
    const int64_t found = schema_of(*sql);
    if (found > kSchema)
      throw refused(path.string(), "was written by a newer fettle (schema " + std::to_string(found) + ")",
                    "update fettle, or set FETTLE_HOME to another folder");
    if (found == kSchema) return;
  }
  if (models) throw DamagedDatabase(path, sql ? "is empty, though models are there" : "is gone, though models are there");
  sql = std::make_unique<Sql>(":memory:");
  sql->run(kTables);
}

void Registry::State::make_anew(const std::function<void(State&)>& fill) {
  State state(std::make_unique<Sql>(database_file()));
  state.sql->transaction([&] {
    state.sql->run(kTables);
    fill(state);
  });
}

Sql& Registry::State::writable() {
  if (sql->path() != ":memory:") return *sql;
  fs::create_directories(models_folder());
  auto made = std::make_unique<Sql>(database_file());
  if (schema_of(*made) < kSchema) made->transaction([&] { made->run(kTables); });  // harmless when another process was faster
  return *(sql = std::move(made));
}

std::vector<ModelRecord> Registry::State::select(const std::string& where, const std::string& name, int version) const {
  Query row(*sql, kColumns + where);
  if (!name.empty()) row.bind(name);
  if (version) row.bind(int64_t(version));
  std::vector<ModelRecord> found;
  while (row.step()) found.push_back(record_of(row));
  return found;
}

std::optional<ModelRecord> Registry::State::tagged(const std::string& tag) const {
  Query row(*sql, "SELECT name, version FROM tags WHERE tag = ?");
  if (!row.bind(tag).step()) return std::nullopt;
  auto found = select("WHERE name = ? AND version = ?", row.text(0), int(row.integer(1)));
  return found.empty() ? std::nullopt : std::optional(found[0]);
}

std::vector<Registry::Tag> Registry::State::tags() const {
  std::vector<Tag> found;
  Query row(*sql, "SELECT tag, name, version FROM tags ORDER BY tag");
  while (row.step()) found.push_back({row.text(0), row.text(1) + ":" + std::to_string(row.integer(2))});
  return found;
}

int Registry::State::next_version(const std::string& name) const {
  Query row(*sql, "SELECT last FROM versions WHERE name = ?");
  int last = row.bind(name).step() ? int(row.integer(0)) : 0;
  std::error_code error;  // a folder without a row keeps its number too
  for (const auto& entry : fs::directory_iterator(models_folder() / name, error))
    last = std::max(last, version_number(entry.path().filename().string()));
  return last + 1;
}

void Registry::State::insert(const ModelRecord& r) {
  Query row(*sql, "INSERT OR REPLACE INTO models VALUES(?, ?, ?, ?, ?, ?, ?)");
  row.bind(r.name).bind(int64_t(r.version)).bind(r.state).bind(r.digest).bind(r.created).bind(int64_t(r.bytes));
  row.bind(r.recipe.dump(-1, ' ', false, Json::error_handler_t::replace)).step();
  Query(*sql, "INSERT INTO versions VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET last = max(last, excluded.last)")
      .bind(r.name)
      .bind(int64_t(r.version))
      .step();
}

void Registry::State::erase(const ModelRecord& r) {
  const size_t before = tags().size();
  Query(*sql, "DELETE FROM models WHERE name = ? AND version = ?").bind(r.name).bind(int64_t(r.version)).step();
  Query(*sql, "DELETE FROM tags WHERE name = ? AND version = ?").bind(r.name).bind(int64_t(r.version)).step();
  if (tags().size() < before) save_tags();
}

void Registry::State::put_tag(const std::string& tag, const std::string& name, int version) {
  Query(*sql, "INSERT OR REPLACE INTO tags VALUES(?, ?, ?)").bind(tag).bind(name).bind(int64_t(version)).step();
}

void Registry::State::save_tags() const { write_text(tags_file(), pretty(tags_json(tags()))); }

Registry::Registry() : state_(std::make_unique<State>()) {}

Registry::~Registry() = default;

ModelRecord Registry::add(const std::string& name, const fs::path& model, const std::string& state, const Json& recipe) {
  require_model_name(name);
  Sql& sql = state_->writable();
  const fs::path staging = passing_folder("incoming");
  fs::create_directories(staging);
  struct Cleaner {
    fs::path folder;
    ~Cleaner() {
      std::error_code error;
      fs::remove_all(folder, error);
    }
  } cleaner{staging};
  ModelRecord record{name, 0, {}, state, take_in(model, staging), utc_timestamp(), 0, recipe};
  record.bytes = stored_bytes(model_in(staging));
  try {
    sql.transaction([&] {
      record.version = state_->next_version(name);
      write_card(staging, record);
      flush_folder(staging);
      fs::create_directories(models_folder() / name);
      state_->insert(record);
      const fs::path place = version_folder(name, record.version);
      rename_or_fail(staging, place);
      record.path = model_in(place);
      flush_folder(models_folder() / name);
    });
  } catch (...) {
    std::error_code ignored;  // no row: no folder either
    if (!record.path.empty()) fs::rename(record.path.parent_path(), staging, ignored);
    throw;
  }
  return record;
}

std::vector<ModelRecord> Registry::list() const { return state_->select("ORDER BY name, version"); }

std::vector<Registry::Tag> Registry::tags() const { return state_->tags(); }

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
  Sql& sql = state_->writable();
  if (state_->tagged(name_or_label)) {
    sql.transaction([&] {
      Query(sql, "DELETE FROM tags WHERE tag = ?").bind(name_or_label).step();
      state_->save_tags();
    });
    return;
  }
  const fs::path folder = found.path.parent_path(), away = passing_folder("removed");
  std::error_code error;
  try {
    sql.transaction([&] {
      if (fs::exists(folder, error)) rename_or_fail(folder, away);
      fs::remove_all(away, error);
      state_->erase(found);
    });
  } catch (const Error& e) {
    if (fs::exists(folder, error)) throw;
    throw Error(e.code, e.place, e.what(), "its files are gone already; `fettle rm " + found.label() + "` again takes the row out");
  }
  if (fs::exists(away, error)) warn(away.string() + " could not be removed: `fettle doctor --mend` tries again");
  fs::remove(folder.parent_path(), error);  // only when empty
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
  state_->writable().transaction([&] {
    state_->put_tag(to, record->name, record->version);
    state_->save_tags();
  });
}

}  // namespace fettle
