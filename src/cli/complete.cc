#include "cli/complete.h"

#include <algorithm>
#include <map>
#include <set>

#include "cli/running.h"

namespace fettle {
namespace {

using Offer = Offers::Offer;

// ---- what the words that stand for values mean

std::vector<Offer> tags() {
  std::vector<Offer> offers;
  for (const Registry::Tag& tag : Registry().tags()) offers.push_back({tag.name, "stands for " + tag.label});
  return offers;
}

// Names, tags, versions.
std::vector<Offer> registered() {
  std::vector<Offer> offers;
  std::set<std::string> names;
  const std::vector<ModelRecord> records = Registry().list();
  for (const ModelRecord& r : records)
    if (names.insert(r.name).second) offers.push_back({r.name, "its newest version"});
  for (Offer& tag : tags()) offers.push_back(std::move(tag));
  for (const ModelRecord& r : records) offers.push_back({r.label(), r.state + ", " + format_bytes(double(r.bytes))});
  return offers;
}

// What is here and what could be fetched.
std::vector<Offer> models() {
  std::vector<Offer> offers;
  try {
    offers = registered();
  } catch (const Error&) {
    // a damaged registry is doctor's business
  }
  for (const CatalogueEntry& e : catalogue())
    if (std::none_of(offers.begin(), offers.end(), [&](const Offer& o) { return o.word == e.name; }))
      offers.push_back({e.name, "to be fetched: " + e.description});
  return offers;
}

std::vector<Offer> types() {
  std::vector<Offer> offers;
  for (const std::string& name : quantize_types()) offers.push_back({name, ""});
  return offers;
}

std::vector<Offer> task_names() {
  std::vector<Offer> offers;
  for (const Task* t : tasks()) offers.push_back({t->name, t->description});
  return offers;
}

std::vector<Offer> method_names() {
  std::vector<Offer> offers;
  for (const Method* m : methods()) offers.push_back({m->name, m->description});
  return offers;
}

std::vector<Offer> servers() {
  std::vector<Offer> offers;
  for (const Json& server : running_servers()) {
    const std::string url = server["url"];
    for (const Json& model : server["models"]) offers.push_back({model, url});
    offers.push_back({server["port"].dump(), url});
  }
  return offers;
}

// Commands' first words, or the second words behind `first`.
std::vector<Offer> command_words(const std::string& first) {
  std::vector<Offer> offers;
  for (const Command* c : commands()) {
    const std::vector<std::string> words = split(c->name, ' ');
    if (first.empty() && words.size() == 1) offers.push_back({words[0], c->summary});
    if (!first.empty() && words.size() == 2 && words[0] == first) offers.push_back({words[1], c->summary});
    if (first.empty() && words.size() == 2 && (offers.empty() || offers.back().word != words[0]))
      offers.push_back({words[0], words[0] + " …"});
  }
  return offers;
}

struct Meaning {
  std::vector<Offer> (*words)() = nullptr;
  Offers::Files files = Offers::Files::none;
  bool several = false;  // with commas
};
Meaning meaning_of(const std::string& word) {
  static const std::map<std::string, Meaning> known = {{"MODEL", {models, Offers::Files::models}},
                                                       {"OTHER", {models, Offers::Files::models}},
                                                       {"TAG", {tags}},
                                                       {"TYPE", {types}},
                                                       {"TASK", {task_names}},
                                                       {"TASKS", {task_names, Offers::Files::none, true}},
                                                       {"METHOD", {method_names}},
                                                       {"SERVER", {servers}},
                                                       {"COMMAND", {[] { return command_words(""); }}},
                                                       {"DATA", {nullptr, Offers::Files::any}},
                                                       {"FILE", {nullptr, Offers::Files::any}},
                                                       {"PATH", {nullptr, Offers::Files::any}},
                                                       {"ADAPTER", {nullptr, Offers::Files::any}}};
  const auto found = known.find(word);
  return found == known.end() ? Meaning() : found->second;
}

// ---- the line

// Adds those that begin with `typed`, all behind `head`.
void add(Offers& offers, const std::vector<Offer>& candidates, const std::string& head, const std::string& typed) {
  for (const Offer& c : candidates)
    if (c.word.starts_with(typed)) offers.list.push_back({head + c.word, c.help});
}

void add_values(Offers& offers, const Option& option, std::string head, std::string typed) {
  const Meaning meaning = meaning_of(option.positional() ? option.name() : option.value_name);
  std::vector<Offer> candidates;
  for (const std::string& choice : option.choices) candidates.push_back({choice, ""});
  if (candidates.empty() && meaning.words) candidates = meaning.words();
  if (size_t comma = typed.rfind(','); meaning.several && comma != typed.npos) {
    const std::vector<std::string> before = split(typed.substr(0, comma), ',');
    std::erase_if(candidates, [&](const Offer& o) { return std::find(before.begin(), before.end(), o.word) != before.end(); });
    head += typed.substr(0, comma + 1);
    typed.erase(0, comma + 1);
  }
  add(offers, candidates, head, typed);
  if (option.choices.empty()) offers.files = meaning.files;
}

const Option* find_option(const Options& options, const std::string& name) {
  for (const Option& o : options.all())
    for (const std::string& each : split(o.names, ','))
      if (!o.positional() && each == name) return &o;
  return nullptr;
}

// Where the word to be completed stands among a command's words.
struct Place {
  const Option* waits = nullptr;  // for its value
  std::vector<std::string> plain;
  std::vector<const Option*> given;
  bool plain_only = false;  // behind "--"
};
Place place_behind(const Options& options, const std::vector<std::string>& words) {
  Place place;
  for (const std::string& word : words) {
    if (place.waits) {
      place.waits = nullptr;
    } else if (place.plain_only || word.empty() || word[0] != '-') {
      place.plain.push_back(word);
    } else if (word == "--") {
      place.plain_only = true;
    } else if (const Option* o = find_option(options, word.substr(0, word.find('=')))) {
      place.given.push_back(o);
      if (!o->value_name.empty() && word.find('=') == word.npos) place.waits = o;
    }
  }
  return place;
}

void add_option_names(Offers& offers, const Options& options, const Place& place, const std::string& typed) {
  for (const Option& o : options.all()) {
    const bool again = o.list || std::find(place.given.begin(), place.given.end(), &o) == place.given.end();
    if (o.positional() || !again) continue;
    for (const std::string& name : split(o.names, ',')) add(offers, {{name, o.help}}, "", typed);
  }
  add(offers, {{"--help", "examples and options"}}, "", typed);
}

// A value of an option, or options; false: it must be a plain word.
bool add_option_words(Offers& offers, const Options& options, const Place& place, const std::string& typed) {
  if (place.waits) return add_values(offers, *place.waits, "", typed), true;
  if (place.plain_only || typed.empty() || typed[0] != '-') return false;
  const size_t equals = typed.find('=');
  if (equals == typed.npos) return add_option_names(offers, options, place, typed), true;
  if (const Option* o = find_option(options, typed.substr(0, equals)); o && !o->value_name.empty())
    add_values(offers, *o, typed.substr(0, equals + 1), typed.substr(equals + 1));
  return true;
}

void add_positional(Offers& offers, const Options& options, size_t index, const std::string& typed) {
  size_t at = 0;
  for (const Option& o : options.all()) {
    if (!o.positional()) continue;
    if (at == index || (o.list && at < index)) return add_values(offers, o, "", typed);
    at++;
  }
}

const Command* command_named(const std::vector<std::string>& plain, size_t& used) {
  for (used = std::min<size_t>(2, plain.size()); used > 0; used--) {
    const std::string name = used == 2 ? plain[0] + " " + plain[1] : plain[0];
    for (const Command* c : commands())
      if (name == c->name) return c;
  }
  return nullptr;
}

void fill(Offers& offers, const std::vector<std::string>& words, const std::string& typed) {
  Invocation call;
  call.common.add_to(call.options);  // until the command is known
  Place place = place_behind(call.options, words);
  if (!place.plain.empty() && place.plain[0] == "help") place.plain.erase(place.plain.begin());
  size_t used = 0;
  const Command* command = command_named(place.plain, used);
  if (command) {
    Invocation own;
    set_up(*command, own);
    place = place_behind(own.options, words);
    if (!place.plain.empty() && place.plain[0] == "help") place.plain.erase(place.plain.begin());
    if (!add_option_words(offers, own.options, place, typed)) add_positional(offers, own.options, place.plain.size() - used, typed);
    return;
  }
  if (add_option_words(offers, call.options, place, typed)) return;
  if (place.plain.size() < 2) add(offers, command_words(place.plain.empty() ? "" : place.plain[0]), "", typed);
  if (place.plain.empty()) add(offers, {{"help", "of a command"}}, "", typed);
}

// ---- the shells

// A word as it stands on the line, without its quotes; the last one may still lack the closing one.
std::string unquoted(const std::string& word) {
  std::string out;
  char quote = 0;
  for (size_t i = 0; i < word.size(); i++) {
    const char c = word[i];
    if (quote ? c == quote : c == '\'' || c == '"')
      quote = quote ? 0 : c;
    else if (c == '\\' && quote != '\'' && i + 1 < word.size())
      out += word[++i];
    else
      out += c;
  }
  return out;
}

// Bash takes a:b and --a=b apart (COMP_WORDBREAKS), and replaces what stands behind the last mark.
std::vector<std::string> joined_at_marks(const std::vector<std::string>& pieces, std::string& before) {
  std::vector<std::string> words;
  bool open = false;
  for (const std::string& piece : pieces) {
    const bool mark = !piece.empty() && piece.find_first_not_of(":=") == piece.npos;
    if (words.empty() || !(mark || open)) {
      words.push_back(unquoted(piece));
      before.clear();
    } else {
      if (open) before = words.back();
      words.back() += unquoted(piece);
      if (mark) before = words.back();
    }
    open = mark;
  }
  return words;
}

// _describe of zsh parts word and description at the first colon.
std::string zsh_line(const Offer& o) {
  std::string out;
  for (char c : o.word) out += c == ':' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return o.help.empty() ? out : out + ":" + o.help;
}

}  // namespace

Offers complete(const std::string& shell, std::vector<std::string> words) {
  Offers offers;
  if (shell == "bash") words = joined_at_marks(words, offers.before);
  if (words.empty()) words.emplace_back();
  const std::string typed = std::move(words.back());
  words.pop_back();
  try {
    fill(offers, words, typed);
  } catch (const std::exception&) {
    // what was found until then is offered
  }
  if (typed.find(':') != typed.npos && !offers.list.empty()) offers.files = Offers::Files::none;  // a label
  return offers;
}

std::string offer_lines(const std::string& shell, const Offers& offers) {
  std::string out;
  if (offers.files != Offers::Files::none) out = offers.files == Offers::Files::models ? ":files gguf\n" : ":files\n";
  for (const Offer& o : offers.list) {
    std::string help;
    for (char c : o.help) help += c == '\n' || c == '\t' ? ' ' : c;
    const Offer clean{o.word, help};
    if (shell == "bash") out += o.word.substr(std::min(offers.before.size(), o.word.size())) + "\n";
    if (shell == "zsh") out += zsh_line(clean) + "\n";
    if (shell == "fish") out += help.empty() ? o.word + "\n" : o.word + "\t" + help + "\n";
  }
  return out;
}

}  // namespace fettle
