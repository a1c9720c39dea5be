// completion: a shell's completion script; with the words of a line, what the script asks for.
#include "cli/complete.h"

namespace fettle {
namespace {

struct Arguments {
  std::string shell;
  std::vector<std::string> words;
};

Json offers_json(const Offers& offers) {
  Json list = Json::array();
  for (const Offers::Offer& o : offers.list) list.push_back({{"word", o.word}, {"help", o.help}});
  return list;
}

Json answer(const Arguments& a) {
  if (a.words.empty()) return {{"shell", a.shell}, {"script", completion_script(a.shell)}};
  const Offers offers = complete(a.shell, a.words);
  return {{"shell", a.shell}, {"script", offer_lines(a.shell, offers)}, {"offers", offers_json(offers)}};
}

std::function<Json()> setup(Options& o, Common&) {
  auto a = std::make_shared<Arguments>();
  o.add("SHELL", a->shell, "whose").require().one_of({"bash", "zsh", "fish"});
  o.add("WORDS", a->words, "for the script: the words of a line behind `fettle`, the last of which is to be completed");
  return [a] { return answer(*a); };
}

void print(const Json& d) { std::fputs(d["script"].get<std::string>().c_str(), stdout); }

}  // namespace

const Command command_completion = {"completion",
                                    "About",
                                    "a completion script for bash, zsh or fish",
                                    "source <(fettle completion bash)\n"
                                    "fettle completion zsh > \"${fpath[1]}/_fettle\"\n"
                                    "fettle completion fish > ~/.config/fish/completions/fettle.fish\n"
                                    "fettle completion bash -- quantize tickets --ty",
                                    setup,
                                    print,
                                    false};

}  // namespace fettle
