// Options as data: every kind of value is a parser from text that names the option when it does not like what it reads.
#include <charconv>
#include <cmath>

#include "cli/cli.h"

namespace fettle {
namespace {

template <class T>
T parse_number(const std::string& name, const std::string& text, const char* kind) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) throw usage(name + ": '" + text + "' is not " + kind);
  if constexpr (std::is_floating_point_v<T>)
    if (!std::isfinite(value)) throw usage(name + ": '" + text + "' is not a finite number");
  return value;
}

template <class T>  // as short as the type tells it from its neighbours
std::string number_text(T value) {
  char text[32];
  auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return {text, end};
}

// The long name, else the last of "-q,--quiet".
std::string long_name(const std::string& names) {
  size_t comma = names.rfind(',');
  return comma == names.npos ? names : names.substr(comma + 1);
}

}  // namespace

std::string Option::name() const { return long_name(names); }

Option& Options::put(std::string names, std::string value_name, std::string value, std::string help,
                     std::function<void(const std::string&)> set) {
  Option option;
  option.names = std::move(names);
  option.value_name = std::move(value_name);
  option.value = std::move(value);
  option.help = std::move(help);
  option.set = std::move(set);
  options_.push_back(std::move(option));
  return options_.back();
}

Option& Options::flag(const std::string& names, bool& target, std::string help) {
  return put(names, "", target ? "true" : "", std::move(help), [&target, name = long_name(names)](const std::string& text) {
    if (text != "true" && text != "false") throw usage(name + " is on or off: true or false, not '" + text + "'");
    target = text == "true";
  });
}

Option& Options::add(const std::string& names, std::string& target, std::string help) {
  return put(names, "TEXT", target, std::move(help), [&target](const std::string& text) { target = text; });
}

Option& Options::add(const std::string& names, fs::path& target, std::string help) {
  return put(names, "PATH", target.string(), std::move(help), [&target](const std::string& text) { target = text; });
}

Option& Options::add(const std::string& names, int& target, std::string help) {
  return put(names, "N", std::to_string(target), std::move(help),
             [&target, name = long_name(names)](const std::string& text) { target = parse_number<int>(name, text, "a whole number"); });
}

Option& Options::add(const std::string& names, int64_t& target, std::string help) {
  return put(names, "N", std::to_string(target), std::move(help),
             [&target, name = long_name(names)](const std::string& text) { target = parse_number<int64_t>(name, text, "a whole number"); });
}

Option& Options::add(const std::string& names, double& target, std::string help) {
  return put(names, "X", number_text(target), std::move(help),
             [&target, name = long_name(names)](const std::string& text) { target = parse_number<double>(name, text, "a number"); });
}

Option& Options::add(const std::string& names, float& target, std::string help) {
  return put(names, "X", number_text(target), std::move(help),
             [&target, name = long_name(names)](const std::string& text) { target = float(parse_number<double>(name, text, "a number")); });
}

Option& Options::add(const std::string& names, std::vector<std::string>& target, std::string help) {
  Option& option = put(names, "TEXT", "", std::move(help), [&target](const std::string& text) { target.push_back(text); });
  option.list = true;
  return option;
}

Option& Options::seed(const std::string& names, uint64_t& target, std::string help) {
  return put(names, "N", std::to_string(target), std::move(help), [&target, name = long_name(names)](const std::string& text) {
    target = parse_number<uint64_t>(name, text, "a whole number");
  });
}

Option& Options::bytes(const std::string& names, uint64_t& target, std::string help) {
  return put(names, "SIZE", target ? format_bytes(double(target)) : "", std::move(help),
             [&target, name = long_name(names)](const std::string& text) {
               auto value = parse_bytes(text);
               if (!value) throw usage(name + ": '" + text + "' is not a size", "write 90MB (10^6) or 90MiB (2^20)");
               target = *value;
             });
}

Option& Options::seconds(const std::string& names, double& target, std::string help) {
  return put(names, "TIME", target > 0 ? format_seconds(target) : "", std::move(help),
             [&target, name = long_name(names)](const std::string& text) {
               auto value = parse_seconds(text);
               if (!value) throw usage(name + ": '" + text + "' is not a time", "write 2h, 30min or 90s");
               target = *value;
             });
}

Option& Options::custom(std::string names, std::string value_name, std::string help, std::function<void(const std::string&)> set) {
  return put(std::move(names), std::move(value_name), "", std::move(help), std::move(set));
}

void Common::add_to(Options& o) {
  o.flag("--json", json, "one JSON document on stdout when it ends, nothing else there");
  o.add("--progress", progress, "json: progress as JSON lines on stderr").one_of({"auto", "json"}).called("HOW");
  o.flag("-q,--quiet", talk().quiet, "errors only");
  o.custom("-v,--verbose", "", "say more", [](const std::string& text) {
    if (text == "true") talk().verbose++;
  });
  o.add("--threads", stage.threads, "processor threads; 0: physical cores");
  o.bytes("--memory", stage.memory_bytes, "memory to stay within (default: half of the machine's)");
  o.seed("--seed", stage.seed, "where all random numbers start");
  o.flag("--offline", stage.offline, "touch no network");
  o.add("--config", config_file, "options file (default: fettle.toml in this folder)").called("FILE");
}

void Common::add_output(Options& o, const char* help) {
  o.add("--out,-o", out, help).names = "-o,--out";
  o.flag("-f,--force", stage.force, "replace an output that exists");
}

void Common::add_long(Options& o, bool resumable, const char* would) {
  long_work = true;
  o.flag("-n,--dry-run", stage.dry_run, would);
  if (resumable) o.flag("--resume", stage.resume, "go on where an earlier run stopped");
}

}  // namespace fettle
