// Where errors end: every command's document, closing line and exit code.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "cli/plan.h"
#include "simd/isa.h"

namespace fettle {
namespace {

const char* code_name(Exit code) {
  switch (code) {
    case Exit::done:
      return "done";
    case Exit::failed:
      return "failed";
    case Exit::usage:
      return "usage";
    case Exit::refused:
      return "refused";
    case Exit::gate:
      return "gate";
    case Exit::interrupted:
      return "interrupted";
  }
  return "failed";
}

void set_manners() {
  const char* term = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  bool dumb = !term || std::string_view(term) == "dumb";
  talk().live = ::isatty(STDERR_FILENO) && !dumb;
  talk().colour = talk().live && !(no_colour && *no_colour);
  ::signal(SIGPIPE, SIG_IGN);
}

void print_document(const Json& document) {
  std::string text = document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
}

// What every document says beside its own keys, none of which may mean something else in one.
Json frame(const Invocation& call, double seconds, bool ok) {
  return {{"command", call.command ? call.command->name : ""},
          {"version", FETTLE_VERSION},
          {"seconds", seconds},
          {"peak_rss_bytes", peak_rss_bytes()},
          {"seed", call.common.stage.seed},
          {"ok", ok}};
}

void close_for_people(const Json& document, double seconds) {
  std::string line = format_seconds(seconds);
  if (document.contains("tokens_per_s") && document["tokens_per_s"].is_number())
    line += ", " + format_count(document["tokens_per_s"].get<double>()) + " tokens/s";
  if (document.contains("closing")) line += ", " + document["closing"].get<std::string>();
  line += ", " + format_bytes(double(peak_rss_bytes())) + " of memory";
  say(line);
  for (const auto& command : document.value("next", Json::array())) hint("next: " + command.get<std::string>());
}

// `fettle list | head` is no failure, the reader has had enough.
void flush_stdout() {
  if ((std::fflush(stdout) != 0 || std::ferror(stdout)) && !reader_left()) throw failed("stdout", "could not be written");
}

Exit finish(Invocation& call, double start) {
  Json document = call.run();
  double seconds = now_seconds() - start;
  if (call.common.json) {
    Json whole = frame(call, seconds, true);
    whole.insert(document.begin(), document.end());  // keeps what is there
    print_document(whole);
  } else {
    if (document.value("dry_run", false) && document.contains("plan"))
      print_plan(document);
    else if (call.command->print)
      call.command->print(document);
    std::fflush(stdout);
    if (call.command->closing_line) close_for_people(document, seconds);
  }
  flush_stdout();
  return document.value("passed", true) ? Exit::done : Exit::gate;
}

// What Ctrl-C leaves behind where nobody said so: outputs are renamed into their place when they are whole.
Error told(const Invocation& call, const Error& error) {
  if (error.code != Exit::interrupted || !error.hint.empty() || !call.common.long_work) return error;
  return {error.code, error.place, error.what(), "nothing is kept; the same command starts anew"};
}

Exit complain(const Invocation& call, const Error& error, double start) {
  std::string red = talk().colour ? "\033[31merror:\033[0m " : "error: ";
  std::fprintf(stderr, "%s%s\n", red.c_str(), harmless(error.text()).c_str());
  if (!error.hint.empty()) hint(error.hint);
  if (!call.common.json) return error.code;
  Json document = frame(call, now_seconds() - start, false);
  document["error"] = {
      {"code", code_name(error.code)}, {"exit", int(error.code)}, {"message", error.what()}, {"place", error.place}, {"hint", error.hint}};
  print_document(document);
  return error.code;
}

// Figures must not carry the name of kernels that did not run.
void check_instruction_set() {
  const char* wanted = std::getenv("FETTLE_ISA");
  if (!wanted || !*wanted || std::string(wanted) == isa_name(current_isa())) return;
  std::string names;
  for (const Isa isa : available_isas()) names += std::string(names.empty() ? "" : ", ") + isa_name(isa);
  throw usage("FETTLE_ISA: this machine has no '" + std::string(wanted) + "'", "one of: " + names);
}

Exit command_line(const std::vector<std::string>& arguments) {
  double start = now_seconds();
  Invocation call;
  // before parsing: a slip in the options shall already be told in the form that was asked for
  const auto options_end = std::find(arguments.begin(), arguments.end(), "--");
  call.common.json = std::find(arguments.begin(), options_end, "--json") != options_end;
  try {
    parse_command_line(arguments, call);
    if (!call.command) return flush_stdout(), Exit::done;
    check_instruction_set();
    talk().json = call.common.json;
    talk().progress_json = call.common.progress == "json";
    call.common.stage.command = arguments;
    return finish(call, start);
  } catch (const Error& error) {
    return complain(call, told(call, error), start);
  } catch (const std::bad_alloc&) {
    return complain(call, failed("memory", "there is no more", "a smaller model, --context or --batch need less"), start);
  } catch (const fs::filesystem_error& error) {
    return complain(call, failed(error.path1().string(), error.code().message()), start);
  } catch (const std::exception& error) {
    return complain(call, failed({}, error.what(), "this should not happen: please report it with the command line"), start);
  }
}

}  // namespace
}  // namespace fettle

int main(int argc, char** argv) {
  fettle::set_manners();
  fettle::install_interrupt_handler();
  fettle::Exit code = fettle::command_line({argv + 1, argv + argc});
  std::fflush(nullptr);
  return int(code);
}
