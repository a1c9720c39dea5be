// What MODEL means on a command line: a name in the registry, a GGUF file, a Hugging Face folder, a source, or a catalogue name that is
// fetched on first use. A model fetched from a source is registered under a name of its own with the source in its recipe, so that it is
// fetched once. A path needs no registry, so that a file runs whatever became of that.
#include <algorithm>

#include "pipeline/names.h"
#include "pipeline/registry_state.h"

namespace fettle {
namespace {

bool is_model_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path / "config.json", error);
}

// Every name that could have been meant.
std::vector<std::string> known_names(const Registry& registry) {
  std::vector<std::string> names;
  for (const Registry::Tag& tag : registry.tags()) names.push_back(tag.name);
  for (const ModelRecord& record : registry.list())
    if (names.empty() || names.back() != record.name) names.push_back(record.name);
  for (const CatalogueEntry& entry : catalogue()) names.push_back(entry.name);
  return names;
}

std::optional<ModelRecord> pulled_from(const Registry& registry, const std::string& source) {
  std::optional<ModelRecord> found;
  for (const ModelRecord& record : registry.list())
    if (record.state == "base" && record.recipe.is_object() && record.recipe.value("source", "") == source) found = record;
  return found;
}

// Tries the sources in their order; returns the one that gave the file. The last failure is the one that is told.
// look: called again and again, may throw to stop.
std::string fetch(const std::string& label, const std::vector<std::string>& sources, const fs::path& target, const std::string& sha256,
                  bool offline, const std::function<void()>& look) {
  for (size_t i = 0; i < sources.size(); i++) {
    try {
      std::unique_ptr<Progress> progress;
      fetch_model(sources[i], target, sha256, offline, [&](const DownloadProgress& p) {
        if (!progress) progress = std::make_unique<Progress>("pull " + label, int64_t(p.total), "B");
        progress->update(int64_t(p.done), p.source);
        look();
      });
      if (progress) progress->finish(sources[i]);
      return sources[i];
    } catch (const Error& error) {
      if (error.code == Exit::interrupted && !sources[i].starts_with("pypi:"))  // pip keeps nothing
        throw Error(error.code, error.place, error.what(), "what came is kept; the same command goes on from there");
      if (error.code == Exit::interrupted || i + 1 == sources.size()) throw;
      warn(sources[i] + ": " + error.what() + "; trying " + sources[i + 1]);
    }
  }
  throw failed(label, "has no source to fetch it from");
}

// A folder of a family that nothing here runs is refused by its config.json, before its weights come.
void require_known(const fs::path& folder) {
  try {
    open_model_file(folder);
  } catch (const Error& error) {
    if (error.place != (folder / "config.json").string()) return;  // what is missing yet
    std::error_code ignored;
    fs::remove_all(folder, ignored);
    throw;
  }
}

ModelRecord fetch_and_add(Registry& registry, const std::string& name, const std::vector<std::string>& sources, const std::string& asked,
                          const std::string& sha256, bool offline) {
  const fs::path cache = pull_folder();
  fs::create_directories(cache);
  FileLock lock(cache / (name + ".lock"));
  if (auto there = pulled_from(registry, asked)) return *there;           // another process was faster
  const fs::path file = cache / (name + ".gguf"), folder = cache / name;  // whichever it is that comes
  StageContext nothing;
  Json recipe = new_recipe("pull", nothing);
  recipe["source"] = asked;
  std::error_code error;
  bool looked = false;
  recipe["fetched_from"] = fetch(name, sources, file, sha256, offline, [&] {
    if (!looked && fs::exists(folder / "config.json", error)) looked = true, require_known(folder);
  });
  const fs::path& came = fs::exists(file, error) ? file : folder;
  recipe["architecture"] = open_model_file(came).string("general.architecture").value_or("");  // refused here rather than at first use
  ModelRecord record = registry.add(name, came, "base", recipe);
  fs::remove_all(came, error);
  return record;
}

// A model may be wanted for another program, or for a newer fettle.
void warn_unless_it_runs(const ModelRecord& record) {
  try {
    Model::open(record.path);
  } catch (const Error& error) {
    if (error.code != Exit::refused) throw;
    warn(record.label() + " is here, but cannot run: " + error.text());
  }
}

[[noreturn]] void unknown(const Registry& registry, const std::string& model) {
  std::string versions;
  for (const ModelRecord& record : registry.list())
    if (record.name == model) versions += (versions.empty() ? "" : ", ") + record.label() + " (" + record.state + ")";
  if (!versions.empty()) throw refused(model, "has no version that is ready: " + versions, "name the version to use it all the same");
  auto near = did_you_mean(model, known_names(registry));
  throw refused(
      model, "no such model: not a file, not in the registry, not in the catalogue",
      near ? "did you mean " + *near + "?" : "`fettle list --catalogue` shows models that are here and those that can be fetched");
}

// The source or name as it will be looked for: what it is called in recipes, under which name, and where it comes from.
struct Wanted {
  std::string asked, name, sha256;
  std::vector<std::string> sources;
  uint64_t bytes = 0;  // 0: unknown
  bool file = false;   // on this machine
  std::optional<ModelRecord> here;
};

Wanted wanted(const Registry& registry, const std::string& source_or_name) {
  if (const CatalogueEntry* e = find_catalogue(source_or_name))
    return {e->name, e->name, e->sha256, e->sources, e->bytes, false, pulled_from(registry, e->name)};
  std::error_code error;
  const bool file = fs::is_regular_file(source_or_name, error) || is_model_folder(source_or_name);
  if (!is_remote_source(source_or_name) && !file) unknown(registry, source_or_name);
  const std::string source = file ? fs::canonical(source_or_name).string() : source_or_name;
  std::string tail = file ? source : source.substr(source.find(':') + 1);
  std::replace(tail.begin(), tail.end(), ':', '/');  // hf:org/repo:file.gguf is named after the file
  // a file may have changed since
  return {source, name_from(tail), {}, {source}, 0, file, file ? std::nullopt : pulled_from(registry, source)};
}

void require_network(const Wanted& w, bool offline) {
  if (offline && !w.file)
    throw refused(w.asked, "is not on this machine, and --offline forbids fetching it",
                  "`fettle pull " + w.asked + "` while there is a network");
}

// A path that was meant as one, or nullopt.
std::optional<fs::path> as_file(const std::string& model) {
  std::error_code error;
  const bool looks = names_a_file(model);
  if (fs::path folder = model; is_model_folder(folder)) return folder.has_filename() ? folder : folder.parent_path();  // "folder/"
  if (fs::is_directory(model, error) && looks)
    throw fs::exists(fs::path(model) / "adapter.gguf", error)
        ? refused(model, "is a run's folder, not a model",
                  "`fettle merge BASE " + (fs::path(model) / "adapter.gguf").string() + "` makes one")
        : refused(model, "is a folder without config.json", "a model is a GGUF file, or a folder with config.json and *.safetensors");
  if (fs::exists(model, error) && !fs::is_directory(model, error)) return fs::path(model);
  if (looks) throw refused(model, "no such file");
  return std::nullopt;
}

}  // namespace

ModelRecord pull(const std::string& source_or_name, bool offline) {
  Registry registry;
  const Wanted w = wanted(registry, source_or_name);
  if (w.here) return *w.here;
  require_network(w, offline);
  if (!w.file) {
    const ModelRecord record = fetch_and_add(registry, w.name, w.sources, w.asked, w.sha256, offline);
    warn_unless_it_runs(record);
    return record;
  }
  const size_t parts = open_model_file(w.asked).paths().size();  // refused here rather than at first use
  if (parts > 1)
    throw refused(w.asked, "is one file of a set of " + std::to_string(parts) + "; the registry keeps one file a model",
                  "`fettle convert` and `fettle quantize` write one file");
  Json recipe = new_recipe("pull", {});
  recipe["source"] = w.asked;
  const ModelRecord record = registry.add(w.name, w.asked, "base", recipe);
  warn_unless_it_runs(record);
  return record;
}

PullPlan plan_pull(const std::string& source_or_name, bool offline) {
  const Wanted w = wanted(Registry(), source_or_name);
  if (w.here) return {w.here->label(), {}, w.here->bytes};
  require_network(w, offline);
  return {w.name, w.sources, w.bytes ? w.bytes : source_bytes(w.sources.front(), offline)};
}

bool names_a_file(const std::string& model) { return model.find('/') != std::string::npos || model.ends_with(".gguf"); }

fs::path resolve_model(const std::string& model, bool offline) {
  if (model.empty()) throw usage("no model was named");
  if (is_remote_source(model)) return pull(model, offline).path;
  if (names_a_file(model)) return *as_file(model);
  Registry registry;
  if (auto record = registry.find(model)) {
    std::error_code error;
    if (!fs::exists(record->path, error))
      throw refused(record->path.string(), "is gone, though the registry knows " + record->label(),
                    "`fettle doctor --mend` takes it out of the registry; make or pull it again");
    return record->path;
  }
  if (auto file = as_file(model)) return *file;
  if (find_catalogue(model)) return pull(model, offline).path;
  unknown(registry, model);
}

}  // namespace fettle
