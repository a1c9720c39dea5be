// Parsing: which command, which options, what fettle.toml adds. CLI11 takes the words apart; what they mean stands in Options.
#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>

namespace fettle {

namespace {

#define X(name) &command_##name,
const Command* const kCommands[] = {
#include "commands.inc"
};
#undef X

const Command* find_command(const std::string& name) {
  for (const Command* c : commands())
    if (name == c->name) return c;
  return nullptr;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command* c : commands()) names.push_back(c->name);
  return names;
}

bool wants_help(const std::vector<std::string>& words) {
  for (const std::string& w : words) {
    if (w == "--") return false;
    if (w == "--help" || w == "-h") return true;
  }
  return false;
}

// Whether `word` is an option of every command that takes the word after it: "--threads", not "--threads=2" and not "--json".
bool takes_next(const std::string& word) {
  static const std::vector<Option> known = [] {
    static Common bound;  // never read: only names are asked of these options
    Options options;
    bound.add_to(options);
    return options.all();
  }();
  for (const Option& o : known)
    if (!o.value_name.empty())
      for (const std::string& name : split(o.names, ','))
        if (name == word) return true;
  return false;
}

// Places of the first `most` words that are neither options nor values of options that every command has.
std::vector<size_t> plain_words(const std::vector<std::string>& words, size_t most) {
  std::vector<size_t> plain;
  for (size_t i = 0; i < words.size() && plain.size() < most && words[i] != "--"; i++) {
    if (words[i].empty() || words[i][0] != '-')
      plain.push_back(i);
    else if (takes_next(words[i]))
      i++;
  }
  return plain;
}

// The command that `words` (options left out) begin with; erases its words. nullptr: it was a group's name, its help is printed.
const Command* take_command(std::vector<std::string>& words) {
  const std::vector<size_t> plain = plain_words(words, 2);
  const std::string first = words[plain.at(0)];
  if (plain.size() == 2)
    if (const Command* c = find_command(first + " " + words[plain[1]])) {
      words.erase(words.begin() + long(plain[1]));
      words.erase(words.begin() + long(plain[0]));
      return c;
    }
  if (const Command* c = find_command(first)) {
    words.erase(words.begin() + long(plain[0]));
    return c;
  }
  std::string tried = plain.size() == 2 && !group_help(first).empty() ? first + " " + words[plain[1]] : first;
  if (tried == first && !group_help(first).empty()) return std::fputs(group_help(first).c_str(), stdout), nullptr;
  auto near = did_you_mean(tried, command_names());
  if (plain[0] > 0 && !near)  // "--rank 8 tune": the 8 was taken for a command
    throw usage("there is no command '" + tried + "'",
                "a command's own options stand behind it: fettle COMMAND " + words[plain[0] - 1] + " …");
  throw usage("there is no command '" + tried + "'", near ? "did you mean `fettle " + *near + "`?" : "`fettle --help` lists the commands");
}

// CLI11 takes "[a, b]" apart as a list; a word of a prompt shall stay what it is. A word that begins so wears this in front meanwhile.
constexpr char kShield = '\x01';

void bind(CLI::App& app, Option& option) {
  if (option.value_name.empty()) {
    app.add_flag_function(option.names, [&option](int64_t times) {
      for (int64_t i = 0; i < times; i++) option.set("true");
      option.value = "true";
      option.source = "command line";
    });
    return;
  }
  auto take = [&option](const std::vector<std::string>& values) {
    option.value.clear();
    for (const std::string& v : values) {
      std::string plain = v[0] == kShield ? v.substr(1) : v;
      option.set(plain);
      option.value += (option.value.empty() ? "" : ",") + plain;
    }
    option.source = "command line";
    return true;
  };
  CLI::Option* made = app.add_option_function<std::vector<std::string>>(option.names, take);
  if (option.list && option.positional()) {
    made->expected(1, 1 << 20)->allow_extra_args();
    return;
  }
  // one value each time, so that arguments may follow
  made->expected(1)->allow_extra_args(false);
  made->multi_option_policy(option.list ? CLI::MultiOptionPolicy::TakeAll : CLI::MultiOptionPolicy::TakeLast);
}

void check_choice(const Option& option) {
  if (option.choices.empty() || option.source == "default") return;
  for (const std::string& word : split(option.value, ',')) {
    if (std::find(option.choices.begin(), option.choices.end(), word) != option.choices.end()) continue;
    auto near = did_you_mean(word, option.choices);
    throw usage(option.name() + ": '" + word + "' is not known",
                (near ? "did you mean " + *near + "? " : "") + "there are: " + CLI::detail::join(option.choices, ", "));
  }
}

void refuse_extras(const Invocation& call, const std::vector<std::string>& extras) {
  if (extras.empty()) return;
  const std::string word = extras[0].starts_with(kShield) ? extras[0].substr(1) : extras[0];
  std::string verb = std::string("fettle ") + call.command->name;
  if (word.empty() || word[0] != '-') throw usage("'" + word + "' is one word too many", "`" + verb + " --help` shows what it takes");
  std::vector<std::string> known;
  for (const Option& o : call.options.all())
    if (!o.positional()) known.push_back(o.name());
  std::string name = word.substr(0, word.find('='));
  auto near = did_you_mean(name, known);
  throw usage(verb + " has no option " + name, near ? "did you mean " + *near + "?" : "`" + verb + " --help` lists them");
}

void parse_options(Invocation& call, std::vector<std::string> words) {
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  for (Option& option : call.options.all()) bind(app, option);
  for (std::string& word : words)
    if (word.starts_with('[')) word.insert(word.begin(), kShield);
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ParseError& e) {
    throw usage(e.what(), std::string("`fettle ") + call.command->name + " --help` shows what it takes");
  }
  std::vector<std::string> extras = app.remaining();
  std::erase(extras, "--");  // CLI11 counts the mark itself among what is left over
  refuse_extras(call, extras);
}

}  // namespace

std::span<const Command* const> commands() { return kCommands; }

void set_up(const Command& command, Invocation& call) {
  call.command = &command;
  call.run = command.setup(call.options, call.common);
  size_t own = call.options.all().size();
  call.common.add_to(call.options);
  for (size_t i = own; i < call.options.all().size(); i++) call.options.all()[i].common = true;
}

std::vector<Option>::iterator find_named(Options& options, const std::string& name) {
  auto& all = options.all();
  return std::find_if(all.begin(), all.end(), [&](const Option& o) { return o.name() == "--" + name || o.name() == name; });
}

// A slip in the file shall not pass for another command's business: its section must be a command, a key at the top an option of one.
void check_item(const CLI::ConfigItem& item, const std::string& file) {
  std::vector<std::string> sections, options;
  for (const Command* c : commands()) {
    if (!item.parents.empty() && split(c->name, ' ') == item.parents) return;
    sections.push_back(c->name);
    if (!item.parents.empty()) continue;
    Invocation other;
    set_up(*c, other);
    if (find_named(other.options, item.name) != other.options.all().end()) return;
    for (const Option& o : other.options.all())
      if (!o.positional()) options.push_back(o.name().substr(2));
  }
  const bool top = item.parents.empty();
  const std::string word = top ? item.name : CLI::detail::join(item.parents, " ");
  const auto near = did_you_mean(word, top ? options : sections);
  throw usage(file + ": " + (top ? "no command has an option '" + word + "'" : "there is no command '" + word + "' for a section"),
              near ? "did you mean " + *near + "?" : "");
}

void apply_config(Invocation& call) {
  std::string file = call.common.config_file.empty() ? "fettle.toml" : call.common.config_file;
  if (call.common.config_file.empty() && !fs::exists(file)) return;
  std::ifstream stream(file);
  if (!stream) throw usage(file + ": cannot be read");
  std::vector<CLI::ConfigItem> items;
  try {
    items = CLI::ConfigTOML().from_config(stream);
  } catch (const CLI::Error& e) {
    throw refused(file, e.what());
  }
  std::vector<std::string> section = split(call.command->name, ' ');
  for (const CLI::ConfigItem& item : items) {
    if (item.name == "++" || item.name == "--") continue;
    const bool own = item.parents.empty() || item.parents == section;
    const auto found = own ? find_named(call.options, item.name) : call.options.all().end();
    if (found == call.options.all().end()) {
      if (item.parents != section) {  // another command's, or nobody's
        check_item(item, file);
        continue;
      }
      throw usage(file + ": [" + CLI::detail::join(section, ".") + "] has no option '" + item.name + "'");
    }
    if (found->source == "command line") continue;
    try {
      for (const std::string& value : item.inputs) found->set(value);
    } catch (const Error& error) {
      throw Error(error.code, file, error.what(), error.hint);
    }
    found->value = CLI::detail::join(item.inputs, ",");
    found->source = file;
  }
}

void parse_command_line(const std::vector<std::string>& arguments, Invocation& call) {
  std::vector<std::string> words = arguments;
  const auto first_word = [&] {
    const std::vector<size_t> plain = plain_words(words, 1);
    return plain.empty() ? words.end() : words.begin() + long(plain[0]);
  };
  auto first = first_word();
  if (first != words.end() && *first == "help") {
    words.erase(first);
    words.push_back("--help");
    first = first_word();
  }
  if (std::find(words.begin(), first, "--version") != first) {
    std::puts("fettle " FETTLE_VERSION);
    return;
  }
  if (first == words.end()) {
    std::fputs(main_help().c_str(), stdout);
    return;
  }
  const Command* command = take_command(words);
  if (!command) return;
  set_up(*command, call);
  if (wants_help(words)) {
    std::fputs(command_help(*command, call.options).c_str(), stdout);
    call.command = nullptr;
    return;
  }
  parse_options(call, words);
  apply_config(call);
  for (const Option& option : call.options.all()) {
    check_choice(option);
    if (option.required && option.source == "default")
      throw usage(std::string("fettle ") + command->name + " needs " + option.name() + ": " + option.help,
                  std::string("`fettle ") + command->name + " --help` shows examples");
  }
}

}  // namespace fettle
