// Words for people, all made from the command table: help and the man page. Nothing here knows a command by name, so a new command is
// helped and documented by being a file in command/.
#include <algorithm>

#include "cli/cli.h"

namespace fettle {
namespace {

constexpr size_t kWidth = 100, kColumn = 30;

// What main_help() shows first: groups in this order, others after them.
const char* const kGroups[] = {"The main job", "Models", "Data", "Train", "Shrink", "Measure", "Use", "Files", "About"};

std::vector<std::string> groups_in_order() {
  std::vector<std::string> groups;
  for (const char* name : kGroups)
    if (std::any_of(commands().begin(), commands().end(), [&](const Command* c) { return std::string(name) == c->group; }))
      groups.push_back(name);
  for (const Command* c : commands())
    if (std::find(groups.begin(), groups.end(), c->group) == groups.end()) groups.push_back(c->group);
  return groups;
}

size_t shown_width(const std::string& text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// `text` broken at spaces, further lines begin at `indent`.
std::string wrapped(const std::string& text, size_t indent) {
  std::string out;
  size_t column = indent;
  for (const std::string& word : split(text, ' ')) {
    size_t width = shown_width(word);
    if (column > indent && column + 1 + width > kWidth) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      column++;
    }
    out += word;
    column += width;
  }
  return out;
}

std::string entry(const std::string& left, const std::string& right, size_t column) {
  std::string line = "  " + left;
  size_t width = shown_width(line);
  line += width + 2 > column ? "\n" + std::string(column, ' ') : std::string(column - width, ' ');
  return line + wrapped(right, column) + "\n";
}

std::string option_left(const Option& o) {
  std::string left = o.names;
  if (size_t comma = left.find(','); comma != left.npos) left.insert(comma + 1, " ");
  if (!o.positional() && !o.value_name.empty()) left += " " + o.value_name;
  return left;
}

std::string option_right(const Option& o) {
  std::string right = o.help;
  if (!o.choices.empty() && o.choices.size() <= 12) {
    right += right.empty() ? "" : ": ";
    for (size_t i = 0; i < o.choices.size(); i++) right += (i ? ", " : "") + o.choices[i];
  }
  if (!o.value_name.empty() && !o.value.empty() && o.source == "default") right += " (" + o.value + ")";
  return right;
}

std::string usage_line(const Command& command, const Options& options) {
  std::string line = std::string("fettle ") + command.name;
  for (const Option& o : options.all())
    if (o.positional()) line += o.required ? " " + o.name() + (o.list ? "…" : "") : " [" + o.name() + (o.list ? "…" : "") + "]";
  return line + " [options]";
}

std::string option_section(const char* heading, const Options& options, const std::function<bool(const Option&)>& belongs) {
  std::string out;
  for (const Option& o : options.all())
    if (belongs(o)) out += entry(option_left(o), option_right(o), kColumn);
  return out.empty() ? out : std::string("\n") + heading + "\n" + out;
}

// Every command with options bound to variables of its own.
struct Bound {
  std::string name;
  const Command* command;
  std::unique_ptr<Invocation> call;
};
std::vector<Bound> bound_commands() {
  std::vector<Bound> all;
  for (const Command* c : commands()) {
    auto call = std::make_unique<Invocation>();
    set_up(*c, *call);
    all.push_back({c->name, c, std::move(call)});
  }
  return all;
}

std::vector<std::string> option_names(const Option& o) { return split(o.names, ','); }

// ---- roff

std::string roff(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n'))
      out += std::string("\\&") + c;
    else
      out += c;
  }
  return out;
}

std::string roff_option(const Option& o) {
  std::string names;
  for (const std::string& n : o.positional() ? std::vector<std::string>{o.name()} : option_names(o))
    names += (names.empty() ? "" : ", ") + ("\\fB" + roff(n) + "\\fR");
  if (!o.positional() && !o.value_name.empty()) names += " \\fI" + roff(o.value_name) + "\\fR";
  return ".TP\n" + names + "\n" + roff(option_right(o)) + "\n";
}

std::string roff_examples(const Command& c) {
  std::string out = ".nf\n";
  for (const std::string& line : split(c.examples, '\n'))
    if (!trim(line).empty()) out += "    " + roff(std::string(trim(line))) + "\n";
  return out + ".fi\n";
}

const char* const kExitCodes[][2] = {{"0", "done"},
                                     {"1", "failed: disk, network, or a bug"},
                                     {"2", "the command line is wrong"},
                                     {"3", "input refused: a file, row, model or request is bad; the place is named"},
                                     {"4", "done, but the gate did not pass"},
                                     {"130", "interrupted"}};
const char* const kEnvironment[][2] = {
    {"FETTLE_HOME", "where models, runs and the registry live; default: $XDG_DATA_HOME/fettle"},
    {"FETTLE_API_KEY", "the key that serve asks for"},
    {"FETTLE_ISA", "portable, avx2, avx512, avx512_bf16, amx, neon or neon_i8mm: the instruction set to use"},
    {"HF_ENDPOINT, HF_TOKEN", "the hub that hf: sources are read from, and the token sent to it"},
    {"NO_COLOR, TERM", "no colour when NO_COLOR is set or TERM is dumb"}};

std::string roff_pairs(const char* heading, std::span<const char* const[2]> pairs) {
  std::string out = std::string(".SH ") + heading + "\n";
  for (const auto& pair : pairs) out += ".TP\n\\fB" + roff(pair[0]) + "\\fR\n" + roff(pair[1]) + "\n";
  return out;
}

std::string roff_command(const Bound& b) {
  std::string out = ".SS \"" + roff("fettle " + b.name) + "\"\n" + roff(std::string(b.command->summary)) + ".\n.PP\n\\fB" +
                    roff(usage_line(*b.command, b.call->options)) + "\\fR\n" + roff_examples(*b.command);
  for (const Option& o : b.call->options.all())
    if (!o.common) out += roff_option(o);
  return out;
}

}  // namespace

std::string main_help() {
  std::string out =
      "fettle makes an open language model yours: tuned on your examples, small, fast, measured, served.\n\n"
      "  fettle fit tickets.jsonl           the whole way, from a file of examples to a gated model\n"
      "  fettle chat smollm2-135m-instruct  talk to a model; it is fetched on first use\n"
      "  fettle serve tickets               an OpenAI-compatible server on this machine\n";
  for (const std::string& group : groups_in_order()) {
    out += "\n" + group + "\n";
    for (const Command* c : commands())
      if (group == c->group) out += entry(c->name, c->summary, 18);
  }
  return out + "\n`fettle help COMMAND` shows examples and options; with --json a command prints one JSON document.\n";
}

std::string command_help(const Command& command, const Options& options) {
  std::string out = std::string("fettle ") + command.name + ": " + command.summary + "\n\n";
  for (const std::string& line : split(command.examples, '\n'))
    if (!trim(line).empty()) out += "  " + std::string(trim(line)) + "\n";
  out += "\nusage: " + usage_line(command, options) + "\n";
  out += option_section("arguments", options, [](const Option& o) { return o.positional(); });
  out += option_section("options", options, [](const Option& o) { return !o.positional() && !o.common; });
  return out + option_section("options of every command", options, [](const Option& o) { return o.common; });
}

std::string group_help(const std::string& word) {
  std::string out;
  for (const Command* c : commands())
    if (std::string(c->name).starts_with(word + " ")) out += entry(c->name, c->summary, 18);
  return out.empty() ? out : "fettle " + word + ":\n\n" + out + "\n`fettle help " + word + " COMMAND` shows examples and options.\n";
}

std::string man_page() {
  std::string out =
      ".TH FETTLE 1 \"\" \"fettle " FETTLE_VERSION
      "\" \"User Commands\"\n.SH NAME\nfettle \\- tune, shrink, measure and serve open language models\n"
      ".SH SYNOPSIS\n\\fBfettle\\fR \\fICOMMAND\\fR [\\fIarguments\\fR] [\\fIoptions\\fR]\n"
      ".SH DESCRIPTION\nTurns an open language model and a file of your own examples into a small, fast, measured model, and serves "
      "it. Results go to standard output, everything else to standard error.\n.SH COMMANDS\n";
  auto all = bound_commands();
  for (const std::string& group : groups_in_order())
    for (const Bound& b : all)
      if (group == b.command->group) out += roff_command(b);
  out += ".SH COMMON OPTIONS\n";
  if (!all.empty())
    for (const Option& o : all[0].call->options.all())
      if (o.common) out += roff_option(o);
  out += roff_pairs("EXIT STATUS", kExitCodes) + roff_pairs("ENVIRONMENT", kEnvironment);
  return out +
         ".SH FILES\n.TP\n\\fIfettle.toml\\fR\noptions of every command, in the working folder; a [section] holds those of one command\n"
         ".TP\n\\fI$FETTLE_HOME\\fR\nmodels/, runs/, cache/ and the registry fettle.db\n";
}

}  // namespace fettle
