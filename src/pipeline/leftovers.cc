// What processes leave below the home when they are killed: files and folders whose names tell who was writing them, and downloads. Told by
// the process's number: of a number that was given again nothing is removed. Not handled: homes shared with other machines or containers.
#include <algorithm>

#include "pipeline/doctor.h"
#include "pipeline/registry_state.h"

namespace fettle {
namespace {

void remove_or_fail(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw failed(path.string(), "cannot be removed: " + error.message());
}

void left_over(Doctor& doctor, const fs::path& path, const std::string& what) {
  doctor.found(path.string() + what, "removes it", [&] {
    remove_or_fail(path);
    return "removed";
  });
}

// NAME.gguf.part with NAME.gguf.part.json, which says what its bytes belong to, goes on when it is pulled again, and so does a folder NAME.
// The rest is of no use.
void check_downloads(Doctor& doctor) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(pull_folder(), error))
    if (entry.is_regular_file(error) && entry.path().extension() != ".lock" && !writer_of(entry.path().filename().string()))
      files.push_back(entry.path());
  const auto goes_on_note = [&](const fs::path& path, uint64_t bytes) {
    doctor.said.notes.push_back(path.string() + " (" + format_bytes(double(bytes)) +
                                ") is the first part of a download: pulling the same again goes on with it; delete it to do without");
  };
  for (const auto& entry : fs::directory_iterator(pull_folder(), error)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory(error) || writer_of(name) || is_locked(pull_folder() / (name + ".lock"))) continue;
    uint64_t bytes = 0;
    for (const auto& part : fs::recursive_directory_iterator(entry.path(), error))
      if (part.is_regular_file(error)) bytes += part.file_size(error);
    goes_on_note(entry.path(), bytes);
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    const std::string name = file.filename().string(), model = name.substr(0, name.rfind(".gguf"));
    const fs::path part = pull_folder() / (model + ".gguf.part"), state = pull_folder() / (model + ".gguf.part.json");
    if (is_locked(pull_folder() / (model + ".lock"))) continue;  // on its way
    const bool goes_on = fs::exists(part, error) && fs::file_size(part, error) > 0 && fs::exists(state, error);
    if (!goes_on || (file != part && file != state))
      left_over(doctor, file, " is left of a download that was stopped");
    else if (file == part)
      goes_on_note(file, fs::file_size(file, error));
  }
}

}  // namespace

void check_leftovers(Doctor& doctor) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::recursive_directory_iterator it(fettle_home(), fs::directory_options::skip_permission_denied, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("fettle.db.damaged-") && name.ends_with("Z"))
      doctor.said.notes.push_back(it->path().string() + "* was moved aside by a repair: delete it when nothing is missing");
    const int pid = writer_of(name);
    if (pid == 0) continue;
    it.disable_recursion_pending();
    if (!process_lives(pid)) found.push_back(it->path());
  }
  for (const fs::path& path : found) left_over(doctor, path, " was left by a process that was stopped");
  check_downloads(doctor);
}

}  // namespace fettle
