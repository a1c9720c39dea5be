// doctor: machine, home, registry, files: what is well and what to mend.

#include "cli/model_use.h"
#include "cli/table.h"
#include "op/probe.h"
#include "simd/isa.h"

namespace fettle {
namespace {

struct Arguments {
  bool mend = false, digests = false;
};

// The nearest folder above `path` that exists: where its disk can be asked.
fs::path existing_part(fs::path path) {
  std::error_code ignored;
  while (!path.empty() && path != path.root_path() && !fs::exists(path, ignored)) path = path.parent_path();
  return path.empty() ? fs::path(".") : path;
}

Json machine(const Common& common) {
  Pool pool(common.stage.threads);
  MachineProbe probe = probe_machine(pool, 0.2);
  return {{"isa", isa_name(current_isa())}, {"threads", pool.threads()},        {"memory_bytes", machine_memory()},
          {"f32_gflops", probe.f32_gflops}, {"bf16_gflops", probe.bf16_gflops}, {"int8_gops", probe.int8_gops},
          {"read_gbps", probe.read_gbps}};
}

Json examine(const Arguments& a, const Common& common) {
  std::error_code error;
  fs::path home = fettle_home();
  fs::space_info disk = fs::space(existing_part(home), error);
  Checkup said = check_home(a.mend, a.digests);
  if (error)
    said.left.push_back(home.string() + ": " + error.message());
  else if (disk.available < (uint64_t(2) << 30))
    said.left.push_back(home.string() + " has only " + format_bytes(double(disk.available)) +
                        " left: `fettle rm` frees some, FETTLE_HOME can point to another disk");
  Json problems = said.mendable;
  for (const std::string& sentence : said.left) problems.push_back(sentence);
  Json document = {{"machine", machine(common)},
                   {"home", home},
                   {"disk_free_bytes", error ? 0 : disk.available},
                   {"models", said.models ? Json(*said.models) : Json()},
                   {"problems", problems},
                   {"mended", said.mended},
                   {"notes", said.notes},
                   {"passed", said.clean()}};
  if (!said.mendable.empty()) document["next"] = {"fettle doctor --mend"};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.flag("--mend", a->mend, "repair what can be repaired");
  o.flag("--digests", a->digests, "read every model and compare its digest");
  return [a, &common] { return examine(*a, common); };
}

void print(const Json& d) {
  const Json& m = d["machine"];
  std::fputs(pairs_text({{"threads", m["threads"].dump() + ", " + m["isa"].get<std::string>()},
                         {"memory", format_bytes(m["memory_bytes"]) + ", read at " + number("%.1f GB/s", m["read_gbps"])},
                         {"arithmetic", number("%.0f", m["f32_gflops"]) + " GFLOP/s f32, " + number("%.0f", m["bf16_gflops"]) + " bf16, " +
                                            number("%.0f", m["int8_gops"]) + " int8"},
                         {"home", d["home"].get<std::string>() + ", " + format_bytes(d["disk_free_bytes"]) + " free"},
                         {"models", d["models"].is_null() ? "unknown" : d["models"].dump()}})
                 .c_str(),
             stdout);
  for (const auto& [key, word] : {std::pair("mended", "mended"), std::pair("problems", "problem"), std::pair("notes", "note")})
    for (const Json& sentence : d[key]) std::printf("%s: %s\n", word, sentence.get<std::string>().c_str());
  if (d["problems"].empty()) std::puts(d["mended"].empty() ? "nothing to mend" : "nothing is left to mend");
}

}  // namespace

const Command command_doctor = {"doctor", "Models", "check machine, files and registry", "fettle doctor\nfettle doctor --digests --mend",
                                setup,    print};

}  // namespace fettle
