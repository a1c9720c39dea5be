// completion: a shell's completion script, made from the command table.
#include "cli/cli.h"

namespace fettle {
namespace {

std::function<Json()> setup(Options& o, Common&) {
  auto shell = std::make_shared<std::string>();
  o.add("SHELL", *shell, "whose").require().one_of({"bash", "zsh", "fish"});
  return [shell]() -> Json { return {{"shell", *shell}, {"script", completion_script(*shell)}}; };
}

void print(const Json& d) { std::fputs(d["script"].get<std::string>().c_str(), stdout); }

}  // namespace

const Command command_completion = {"completion",
                                    "About",
                                    "a completion script for bash, zsh or fish",
                                    "source <(fettle completion bash)\n"
                                    "fettle completion fish > ~/.config/fish/completions/fettle.fish",
                                    setup,
                                    print,
                                    false};

}  // namespace fettle
