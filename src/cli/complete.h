// Private to cli: what may stand where somebody presses TAB. The shells' scripts know nothing: they ask the program, so that a new command,
// option or model is completed by being there.
#pragma once
#include "cli/cli.h"

namespace fettle {

struct Offers {
  struct Offer {
    std::string word, help;
  };
  enum class Files { none, any, models };
  std::vector<Offer> list;  // whole words, all of which begin with the one that is typed
  Files files = Files::none;
  std::string before;  // of the typed word, what the shell takes for words of their own and will not have again
};
// words: those behind "fettle" as far as they are typed; the last one, which may be empty, is to be completed. What a value may be follows
// from its choices, or from the word that help shows for it: a MODEL, a FILE, TASKS. Never throws: somebody is typing.
Offers complete(const std::string& shell, std::vector<std::string> words);
// As the script of that shell reads it: a line an offer, and ":files" or ":files gguf" where files may follow.
std::string offer_lines(const std::string& shell, const Offers& offers);

}  // namespace fettle
