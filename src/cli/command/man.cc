// man: the manual page, made from the command table.
#include "cli/cli.h"

namespace fettle {
namespace {

std::function<Json()> setup(Options&, Common&) {
  return []() -> Json { return {{"page", man_page()}}; };
}

void print(const Json& d) { std::fputs(d["page"].get<std::string>().c_str(), stdout); }

}  // namespace

const Command command_man = {"man", "About", "the manual page, as roff", "fettle man | man -l -\nfettle man > fettle.1", setup,
                             print, false};

}  // namespace fettle
