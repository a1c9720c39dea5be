// Room cli: commands as people type them. One file per command in command/; this table is also where help, completion and the man page come
// from.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "pipeline/pipeline.h"

namespace fettle {

// One option of a command, as data: parsing, help, completion, the man page and `fettle config` all read it.
struct Option {
  std::string names;       // "--rank", "-q,--quiet"; a bare word is positional: "MODEL"
  std::string value_name;  // "N"; empty: a flag
  std::string help;
  std::string value;                 // as text: the default, until something sets it
  std::vector<std::string> choices;  // empty: anything
  bool required = false, list = false;
  bool common = false;                          // every command has it: help lists it apart
  std::string source = "default";               // "command line", "fettle.toml"
  std::function<void(const std::string&)> set;  // throws Error{usage}

  bool positional() const { return names[0] != '-'; }
  std::string name() const;  // "--rank" of "-r,--rank", "MODEL"
  Option& require() { return required = true, *this; }
  Option& one_of(std::vector<std::string> words) { return choices = std::move(words), *this; }
  Option& called(std::string word) { return value_name = std::move(word), *this; }
};

// What a command accepts. Each function binds a variable that must outlive the Options; what stands in it now is the default.
class Options {
 public:
  Option& flag(const std::string& names, bool& target, std::string help);
  Option& add(const std::string& names, std::string& target, std::string help);
  Option& add(const std::string& names, fs::path& target, std::string help);
  Option& add(const std::string& names, int& target, std::string help);
  Option& add(const std::string& names, int64_t& target, std::string help);
  Option& add(const std::string& names, double& target, std::string help);
  Option& add(const std::string& names, float& target, std::string help);
  Option& add(const std::string& names, std::vector<std::string>& target, std::string help);
  Option& seed(const std::string& names, uint64_t& target, std::string help);
  Option& bytes(const std::string& names, uint64_t& target, std::string help);  // 90MB, 4GiB
  Option& seconds(const std::string& names, double& target, std::string help);  // 2h, 90s
  Option& custom(std::string names, std::string value_name, std::string help, std::function<void(const std::string&)> set);
  std::vector<Option>& all() { return options_; }
  const std::vector<Option>& all() const { return options_; }

 private:
  Option& put(std::string names, std::string value_name, std::string value, std::string help, std::function<void(const std::string&)> set);
  std::vector<Option> options_;
};

// What every command understands, and --out, --force, --dry-run, --resume for those that ask for them.
struct Common {
  StageContext stage;
  bool json = false;
  bool long_work = false;  // add_long() was called
  std::string config_file, progress;
  fs::path out;
  void add_to(Options& options);
  void add_output(Options& options, const char* help);  // --out, --force
  // --dry-run, --resume; would: what a dry run does.
  void add_long(Options& options, bool resumable,
                const char* would =
                    "check all that can be, show the plan and its cost, write nothing (a model not here yet is fetched: the "
                    "plan needs it)");
};

struct Command {
  const char* name;      // "tune", "data check"
  const char* group;     // heading in help
  const char* summary;   // one line
  const char* examples;  // lines "fettle tune ..."
  // Binds options; returns what to run after parsing. Its document is what --json prints; a document with passed: false ends with exit
  // code 4. "next" in a document (an array of commands) is suggested to people at the end; "closing" (a string) stands in the closing line.
  std::function<Json()> (*setup)(Options& options, Common& common);
  // The document for people, on stdout; nullptr: the command has written what it has to say.
  void (*print)(const Json& document) = nullptr;
  bool closing_line = true;  // false: short work that ends without a line on time and memory
};
// One file in command/ defines each.
#define X(name) extern const Command command_##name;
#include "commands.inc"
#undef X
std::span<const Command* const> commands();

// ---- parsing (cli.cc)
struct Invocation {
  const Command* command = nullptr;  // nullptr: `document` is all there is (help, version)
  Common common;
  Options options;
  std::function<Json()> run;
};
// Fills `call` in place: options bind to its own `common`. Throws Error{usage}; help and version print and leave command null.
void parse_command_line(const std::vector<std::string>& arguments, Invocation& call);
// A command's options bound to `call`, without a command line.
void set_up(const Command& command, Invocation& call);
// Options not given on the command line take their value from fettle.toml (or --config): top-level keys, then the command's [section].
void apply_config(Invocation& call);

// ---- words for people (help.cc)
std::string main_help();
std::string command_help(const Command& command, const Options& options);
std::string group_help(const std::string& word);          // "data": its commands; empty when there is no such group
std::string completion_script(const std::string& shell);  // shells.cc
std::string man_page();

}  // namespace fettle
