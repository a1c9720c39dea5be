// Private to pipeline: what the registry and doctor share: where things lie in $FETTLE_HOME, cards, tags, and the rows.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/pipeline.h"
#include "pipeline/sql.h"

namespace fettle {

fs::path database_file();  // $FETTLE_HOME/fettle.db
fs::path models_folder();
fs::path version_folder(const std::string& name, int version);
// Where a version's model lies in its folder: "model.gguf", or the folder "model".
fs::path model_in(const fs::path& version_folder);
// Whether the bytes there are as many as the record says, and, with `digest`, the same. Reads no format: what is damaged is only not equal.
bool is_what_was_stored(const ModelRecord& record, bool digest);
fs::path tags_file();    // models/tags.json: {"support:live": "tickets:1"}, what the tags table says
fs::path pull_folder();  // downloads on their way: NAME.gguf.part, NAME.gguf, NAME/, NAME.lock

// Folders models/NAME/VERSION whose names can be a model's, in order.
std::vector<std::pair<std::string, int>> folders_on_disk();

// What stands beside the file, so that the row can be written again.
Json card_of(const ModelRecord& record);
void write_card(const fs::path& folder, const ModelRecord& record);
// The card as it is; null when there is none that can be read.
Json read_card(const fs::path& folder);

struct Registry::State {
  // Error{refused} of a database that a newer fettle wrote, DamagedDatabase of one that cannot be used or is gone while models are there.
  State();
  explicit State(std::unique_ptr<Sql> database) : sql(std::move(database)) {}
  // A database with what `fill` puts into it, or, killed at any point, an empty one.
  static void make_anew(const std::function<void(State&)>& fill);
  // In memory, and empty, as long as there is none on disk: reading makes no file.
  std::unique_ptr<Sql> sql;
  // For whoever writes: makes what is missing.
  Sql& writable();

  std::vector<ModelRecord> select(const std::string& where, const std::string& name = {}, int version = 0) const;
  std::optional<ModelRecord> tagged(const std::string& tag) const;
  std::vector<Registry::Tag> tags() const;
  int next_version(const std::string& name) const;

  // Inside a transaction:
  void insert(const ModelRecord& record);
  void erase(const ModelRecord& record);  // and its tags
  void put_tag(const std::string& tag, const std::string& name, int version);
  void save_tags() const;  // to tags_file()
};

// What tags_file() should hold for these tags, and what it holds; null when it cannot be read.
Json tags_json(const std::vector<Registry::Tag>& tags);
Json saved_tags();

}  // namespace fettle
