// Doctor: is what the database says what lies on disk? Where the two differ, the database is right about tags and the files about models. A
// database that cannot be used is written again from the cards beside the models and models/tags.json, in one transaction: stopped in
// between, it is empty, and the next doctor begins anew. Not handled: two doctors that mend at the same moment.
#include "pipeline/doctor.h"

#include <algorithm>
#include <map>

#include "pipeline/registry_state.h"

namespace fettle {
namespace {

// What the card says of a model whose file has the size that it should; nullopt: no card, or one that does not fit the folder it lies in.
std::optional<ModelRecord> by_card(const std::string& name, int version) {
  const fs::path folder = version_folder(name, version);
  const Json card = read_card(folder);
  std::error_code error;
  if (!card.is_object() || !fs::exists(model_in(folder), error)) return std::nullopt;
  try {
    ModelRecord record{name,
                       version,
                       model_in(folder),
                       card.at("state"),
                       card.at("digest"),
                       card.at("created"),
                       card.at("bytes"),
                       card.value("recipe", Json())};
    if (card.at("name") != name || card.at("version") != version || !is_what_was_stored(record, false)) return std::nullopt;
    return record;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

// The same, when its bytes are those that were stored.
std::optional<ModelRecord> whole_model(const std::string& name, int version) {
  stop_if_interrupted();
  std::optional<ModelRecord> record = by_card(name, version);
  return record && is_what_was_stored(*record, true) ? record : std::nullopt;
}

// Why the database cannot be used; nullopt: it can.
std::optional<std::string> damage() {
  try {
    const Registry::State state;
    Query check(*state.sql, "PRAGMA integrity_check(1)");
    if (check.step() && check.text(0) != "ok") throw DamagedDatabase(database_file(), "is damaged: " + check.text(0));
    state.select("ORDER BY name");
    state.tags();
  } catch (const DamagedDatabase& error) {
    return error.text();
  }
  return std::nullopt;
}

// The database and what belongs to it get another name. Returns whether there was one.
bool move_aside(const fs::path& name) {
  bool moved = false;
  for (const char* part : {"-journal", "-wal", "-shm", ""}) {
    const fs::path from = database_file().string() + part;
    std::error_code error;
    if (!fs::exists(from, error)) continue;
    fs::rename(from, name.string() + part, error);
    if (error) throw failed(from.string(), "cannot be renamed: " + error.message());
    moved = true;
  }
  return moved;
}

// Rows from the cards of whole models, tags from tags.json. Returns what came of it.
std::string rebuild(Doctor& doctor) {
  std::string aside = database_file().string() + ".damaged-" + utc_timestamp();
  std::erase(aside, ':');
  const bool moved = move_aside(aside);
  std::map<std::string, ModelRecord> records;
  for (const auto& [name, version] : folders_on_disk())
    if (auto record = whole_model(name, version)) records.emplace(record->label(), *record);
  const Json tags = saved_tags();
  size_t placed = 0;
  Registry::State::make_anew([&](Registry::State& state) {
    for (const auto& [label, record] : records) state.insert(record);
    for (const auto& [tag, label] : tags.items()) {
      const auto model = label.is_string() ? records.find(label) : records.end();
      if (model == records.end()) continue;
      state.put_tag(tag, model->second.name, model->second.version);
      placed++;
    }
  });
  if (!tags.is_object() || placed < tags.size()) {
    fs::rename(tags_file(), aside + "-tags.json");
    doctor.leave(aside + "-tags.json holds tags that stand for nothing that is there: `fettle tag` sets them anew");
  }
  return "rebuilt, with " + std::to_string(records.size()) + " models and " + std::to_string(placed) + " tags" +
         (moved ? "; the old one is " + aside : "");
}

std::string is_damaged(const std::string& label) {
  return label + " is damaged, its bytes are not what was stored: `fettle rm " + label + "`, then make or pull it again";
}

class Examination {
 public:
  Examination(bool mend, bool digests) : doctor_(mend), digests_(digests) {}
  Checkup run() {
    check_leftovers(doctor_);
    if (check_database()) {
      check_rows();
      check_folders();
      check_tags();
      doctor_.said.models = state_->select("").size();
    }
    return std::move(doctor_.said);
  }

 private:
  bool check_database();
  void check_rows();
  void check_row(const ModelRecord& record);
  void check_folders();
  void check_tags();
  // Each repair is a transaction of its own.
  void found(const std::string& what, const std::string& would, const std::string& done, const std::function<void()>& repair) {
    doctor_.found(what, would, [&] {
      state_->writable().transaction(repair);
      return done;
    });
  }

  Doctor doctor_;
  const bool digests_;
  std::optional<Registry::State> state_;
};

// False: there are no rows to compare anything with.
bool Examination::check_database() {
  if (const auto why = damage()) {
    doctor_.found(*why, "rebuilds it from the cards beside the models", [&] { return rebuild(doctor_); });
    if (damage()) return false;
  }
  state_.emplace();
  return true;
}

void Examination::check_rows() {
  for (const ModelRecord& record : state_->select("ORDER BY name, version")) {
    stop_if_interrupted();
    check_row(record);
  }
}

void Examination::check_row(const ModelRecord& record) {
  const std::string label = record.label();
  const fs::path folder = record.path.parent_path();
  std::error_code error;
  if (!fs::exists(record.path, error)) {
    found(label + " has a row but no file", "removes the row", "the row is removed", [&] {
      for (const fs::path& path : {folder / "card.json", folder, folder.parent_path()}) fs::remove(path, error);  // folders that are empty
      state_->erase(record);
    });
  } else if (record.state == "damaged") {
    if (const auto whole = whole_model(record.name, record.version))
      found(label + " is marked as damaged and is what was stored", "takes the mark away", "the mark is taken away",
            [&] { state_->insert(*whole); });
    else
      doctor_.leave(is_damaged(label));
  } else if (!is_what_was_stored(record, digests_)) {
    ModelRecord marked = record;
    marked.state = "damaged";
    found(label + " is not what was stored (" + record.path.string() + ")", "marks it as damaged", "", [&] {
      state_->insert(marked);
      doctor_.leave(is_damaged(label));
    });
  } else if (read_card(folder) != card_of(record)) {
    found((folder / "card.json").string() + " is missing, or is not what the row of " + label + " says", "writes it again", "written again",
          [&] { write_card(folder, record); });
  }
}

void Examination::check_folders() {
  for (const auto& [name, version] : folders_on_disk()) {
    if (!state_->select("WHERE name = ? AND version = ?", name, version).empty()) continue;
    const fs::path folder = version_folder(name, version);
    const std::string label = name + ":" + std::to_string(version);
    std::error_code error;
    if (const auto record = whole_model(name, version))
      found(label + " has a file but no row", "adds the row", "the row is there again", [&] { state_->insert(*record); });
    else if (fs::exists(model_in(folder), error))
      doctor_.leave(folder.string() + " has no row, and no card that fits its model: take the file in with `fettle pull " +
                    model_in(folder).string() + "`, then delete the folder");
    else
      doctor_.leave(folder.string() + " has no row and holds no model: delete the folder");
  }
}

void Examination::check_tags() {
  if (saved_tags() != tags_json(state_->tags()))
    found(tags_file().string() + " is not what the registry says", "writes it again", "written again", [&] { state_->save_tags(); });
}

}  // namespace

void Doctor::found(const std::string& what, const std::string& would, const std::function<std::string()>& repair) {
  if (!mend_) return said.mendable.push_back(what + ": `fettle doctor --mend` " + would);
  try {
    if (const std::string done = repair(); !done.empty()) said.mended.push_back(what + ": " + done);
  } catch (const Error& error) {
    if (error.code == Exit::interrupted) throw;
    said.left.push_back(what + ", and could not be mended: " + error.text() + (error.hint.empty() ? "" : " (" + error.hint + ")"));
  } catch (const fs::filesystem_error& error) {
    said.left.push_back(what + ", and could not be mended: " + error.path1().string() + ": " + error.code().message());
  }
}

Checkup check_home(bool mend, bool digests) { return Examination(mend, digests).run(); }

}  // namespace fettle
