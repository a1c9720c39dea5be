#include "cli/plan.h"

#include <algorithm>

#include "cli/table.h"

namespace fettle {

void Needs::then(const Needs& next) {
  seconds += next.seconds;
  memory_bytes = std::max(memory_bytes, next.memory_bytes);
  disk_bytes += next.disk_bytes;
}

Json dry_run_document(const std::string& what, const std::vector<fs::path>& writes, const Needs& needs, int threads) {
  if (needs.memory_bytes > double(machine_memory()))
    warn("this takes about " + format_bytes(needs.memory_bytes) + " of memory, and the machine has " +
         format_bytes(double(machine_memory())));
  Json paths = Json::array();
  for (const fs::path& path : writes) {
    paths.push_back(path.string());
    std::error_code error;
    fs::path there = fs::absolute(path);
    while (!fs::exists(there, error) && there.has_relative_path()) there = there.parent_path();
    const fs::space_info space = fs::space(there, error);
    if (!error && double(space.available) < needs.disk_bytes)
      warn(path.string() + ": its disk has " + format_bytes(double(space.available)) + " left, and this takes about " +
           format_bytes(needs.disk_bytes));
  }
  const auto known = [](double value) { return value > 0 ? Json(value) : Json(); };
  const double watts = kWattsPerCore * (threads > 0 ? threads : physical_cores());
  return {{"dry_run", true},
          {"plan",
           {{"what", what},
            {"writes", paths},
            {"seconds", known(needs.seconds)},
            {"memory_bytes", known(needs.memory_bytes)},
            {"disk_bytes", writes.empty() ? Json(needs.disk_bytes) : known(needs.disk_bytes)},
            {"energy_wh", known(needs.seconds * watts / 3600)}}}};
}

void print_plan(const Json& d) {
  if (!d.contains("plan")) return;
  const Json& p = d["plan"];
  const auto told = [&](const char* key) { return p.contains(key) && p[key].is_number() ? p[key].get<double>() : 0; };
  std::vector<std::pair<std::string, std::string>> lines;
  if (p.contains("what")) lines.emplace_back("plan", p["what"]);
  if (p.contains("steps")) lines.emplace_back("steps", p["steps"].dump() + " on " + format_count(p.value("tokens", 0.0)) + " tokens");
  if (p.contains("trained_parameters")) lines.emplace_back("trained", format_count(p["trained_parameters"]) + " parameters");
  for (const Json& path : p.value("writes", Json::array())) lines.emplace_back("writes", path);
  if (told("seconds") > 0) lines.emplace_back("time", "about " + format_seconds(told("seconds")));
  if (told("memory_bytes") > 0) lines.emplace_back("memory", "about " + format_bytes(told("memory_bytes")));
  if (told("disk_bytes") > 0) lines.emplace_back("disk", "about " + format_bytes(told("disk_bytes")));
  if (told("energy_wh") > 0) lines.emplace_back("energy", number("about %.2g Wh", told("energy_wh")));
  std::fputs(pairs_text(lines).c_str(), stdout);
}

}  // namespace fettle
