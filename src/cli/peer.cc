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

struct Ended {
  std::string text;  // its standard output
  int status = 0;    // as waitpid gives it
};

// Its standard error is ours. Error{failed} when it cannot be started.
Ended run_program(const std::vector<std::string>& command) {
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
  return {text, status};
}

// The way a program ended.
std::string ending(int status) {
  if (WIFEXITED(status)) return "ended with code " + std::to_string(WEXITSTATUS(status));
  return "died by signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) + ")";
}

// Standard output of a program that ended well.
std::string text_of(Ended end, const std::string& program) {
  if (end.status != 0) throw failed(program, ending(end.status));
  return std::move(end.text);
}

}  // namespace

Peer::Peer(const fs::path& model, const BenchPlan& p, int threads) {
  const char* python = std::getenv("FETTLE_PYTHON");
  std::string interpreter = python ? python : "python3", script = find_script().string();
  Json about;
  try {
    about = last_line_json(text_of(run_program({interpreter, script, "--version"}), interpreter), script);
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

Json Peer::turn() {
  Ended end = run_program(command_);
  if (first_ && WIFSIGNALED(end.status)) {
    note_ = "without its extra buffers: with them it " + ending(end.status);
    warn(name_ + " " + ending(end.status) + ": once more, without its extra buffers");
    command_.push_back("--no-extra-buffers");
    end = run_program(command_);
  }
  first_ = false;
  return last_line_json(text_of(std::move(end), command_[0]), command_[1]);
}

}  // namespace fettle
