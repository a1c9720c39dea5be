#include "cli/peer.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

extern char** environ;

namespace fettle {
namespace {

// Beside this program: in the source tree (build/fettle, tools/), or installed (bin/, share/fettle/).
fs::path find_script() {
  if (const char* path = std::getenv("FETTLE_PEER")) return path;
  std::error_code error;
  fs::path bin = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& place : {bin.parent_path() / "tools", bin.parent_path() / "share" / "fettle"})
    if (fs::exists(place / "peer_llama.py", error)) return place / "peer_llama.py";
  throw failed("peer_llama.py", "is not beside this program", "FETTLE_PEER names it; it lies in the source tree's tools/");
}

Json last_line_json(const std::string& text, const std::string& place) {
  std::string_view whole = trim(text);
  std::string_view line = whole.substr(whole.rfind('\n') == whole.npos ? 0 : whole.rfind('\n') + 1);
  Json document = Json::parse(line, nullptr, false);
  if (!document.is_object()) throw failed(place, "printed no JSON document");
  return document;
}

}  // namespace

std::string output_of(const std::vector<std::string>& command) {
  int ends[2];
  if (::pipe(ends) != 0) throw failed(command[0], std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  int error = ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (error != 0) {
    ::close(ends[0]);
    throw failed(command[0], std::strerror(error));
  }
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) != 0;) {
    if (n > 0)
      text.append(buffer, size_t(n));
    else if (errno != EINTR)
      break;
  }
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  stop_if_interrupted();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw failed(command[0], "ended with code " + std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : status));
  return text;
}

Peer::Peer(const fs::path& model, const BenchPlan& p, int threads) {
  const char* python = std::getenv("FETTLE_PYTHON");
  std::string interpreter = python ? python : "python3", script = find_script().string();
  Json about;
  try {
    about = last_line_json(output_of({interpreter, script, "--version"}), script);
  } catch (const Error& e) {
    if (e.code == Exit::interrupted) throw;
    throw failed(interpreter, "cannot import llama_cpp",
                 "pip install llama-cpp-python, or FETTLE_PYTHON names a Python that has it; `./dev bench` sets one up");
  }
  name_ = about.value("name", "llama.cpp");
  version_ = about.value("version", "");
  command_ = {interpreter, script, model.string()};
  for (const auto& [option, value] : {std::pair{"--prefill", p.prefill},
                                      {"--decode", p.decode},
                                      {"--sequences", p.sequences},
                                      {"--prompt", p.prompt},
                                      {"--new", p.fresh},
                                      {"--kv", p.kv->gguf_id},
                                      {"--threads", threads}}) {
    command_.push_back(option);
    command_.push_back(std::to_string(value));
  }
}

Json Peer::turn() const { return last_line_json(output_of(command_), command_[1]); }

}  // namespace fettle
