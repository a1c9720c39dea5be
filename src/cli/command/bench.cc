// bench: speed as a share of what this machine can do, and against a peer in turns.
#include "cli/bench_shape.h"
#include "cli/bench_work.h"
#include "cli/peer.h"
#include "cli/plan.h"
#include "cli/table.h"
#include "simd/isa.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, shape, type = "Q4_K_M", each = "128+64";
  bool against = false;
  BenchPlan plan;
};

struct Loaded {
  std::shared_ptr<Model> model;
  double load_ms = 0, first_token_ms = 0;
};

// The way a user waits: open, make panels, read a short prompt, see the first token.
Loaded load(const fs::path& path, const Format* kv, const Common& common) {
  double start = now_seconds();
  Loaded out;
  out.model = Model::open(path);
  {
    Pool pool(common.stage.threads);
    out.model->prepare(pool);
  }
  out.load_ms = 1000 * (now_seconds() - start);
  EngineOptions options;
  options.parallel = 1;
  options.context = 256;
  options.kv = kv;
  auto engine = make_engine(out.model, options, common.stage);
  Request request;
  for (int i = 0; i < 32; i++) request.prompt.push_back(i * 7 % std::min(200, out.model->config.vocabulary));
  request.max_tokens = 1;
  request.ignore_end = true;
  answer(*engine, std::move(request), {});
  out.first_token_ms = 1000 * (now_seconds() - start);
  return out;
}

double median_of(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return (v[(v.size() - 1) / 2] + v[v.size() / 2]) / 2;
}

Json peer_json(const Peer& peer, const Json& rows, const std::vector<Json>& turns) {
  Json peer_rows = Json::array(), ratios = Json::array();
  for (const Json& row : rows) {
    std::string work = row["work"];
    std::vector<double> runs, ratio;
    for (size_t i = 0; i < turns.size(); i++) {
      if (!turns[i].contains(work)) continue;
      runs.push_back(turns[i][work]);
      ratio.push_back(row["runs"][i].get<double>() / runs.back());
    }
    if (runs.empty()) continue;
    peer_rows.push_back(
        {{"work", work}, {"tokens_per_s", median_of(runs)}, {"runs", runs}, {"ratio", median_of(ratio)}, {"ratios", ratio}});
    ratios.push_back(median_of(ratio));
  }
  Json document = {{"name", peer.name()}, {"version", peer.version()}, {"rows", peer_rows}, {"ratio", ratios}};
  if (!peer.note().empty()) document["note"] = peer.note();
  return document;
}

Json measure(const Arguments& a, const fs::path& path, const Common& common) {
  Pool pool(common.stage.threads);
  MachineProbe machine = probe_machine(pool, 0.3);
  int threads = pool.threads();
  Loaded loaded = load(path, a.plan.kv, common);
  BenchRig rig(loaded.model, a.plan, common.stage.threads);
  std::unique_ptr<Peer> peer = a.against ? std::make_unique<Peer>(path, a.plan, threads) : nullptr;
  rig.warm_up();
  std::vector<BenchTimes> ours;
  std::vector<Json> theirs;
  Progress progress("bench", a.plan.repeat + 1, "turns");
  for (int i = 0; i < a.plan.repeat; i++) {  // A B A B: what else the machine does falls on both
    ours.push_back(rig.turn());
    if (peer) theirs.push_back(peer->turn());
    progress.update(i + 1);
  }
  BenchOps ops;
  const BenchTimes by_op = rig.turn(&ops);
  progress.update(a.plan.repeat + 1);
  progress.finish();
  Json rows = bench_rows(*loaded.model, a.plan, ours, machine);
  Json document = {{"model", a.shape.empty() ? a.model : a.shape + " " + a.type},
                   {"bytes", loaded.model->file->file_bytes()},
                   {"threads", threads},
                   {"kv", a.plan.kv->name},
                   {"isa", isa_name(current_isa())},
                   {"machine",
                    {{"f32_gflops", machine.f32_gflops},
                     {"bf16_gflops", machine.bf16_gflops},
                     {"int8_gops", machine.int8_gops},
                     {"read_gbps", machine.read_gbps}}},
                   {"rows", rows},
                   {"ops", bench_op_rows(a.plan, by_op, ops, machine)},
                   {"load_ms", loaded.load_ms},
                   {"first_token_ms", loaded.first_token_ms}};
  if (peer) document["peer"] = peer_json(*peer, rows, theirs);
  return document;
}

// Warming up and probing the machine take about as long as one turn more, and one of our own is timed by operation.
Json plan_bench(const Arguments& a, const PassCost& cost, double model_bytes, const Common& common) {
  constexpr double kProgramBytes = 60e6, kProbeBytes = 420e6, kProbeSeconds = 2, kWriteBytesPerSecond = 3e8;
  check_cache(cost, a.plan);
  Pool pool(common.stage.threads);
  const double turn = least_turn_seconds(cost, a.plan, probe_machine(pool, 0.05)) / kUsualShare;
  Needs needs{kProbeSeconds + turn * (a.plan.repeat + 2 + (a.against ? a.plan.repeat + 1 : 0)),
              std::max(kProbeBytes, kProgramBytes + 2 * model_bytes + double(cached_tokens(a.plan)) * cost.kv_bytes), 0};
  if (!a.shape.empty()) needs.then({model_bytes / kWriteBytesPerSecond, 0, model_bytes});
  std::vector<std::string> works;
  if (a.plan.prefill > 0) works.push_back("a prompt of " + std::to_string(a.plan.prefill) + " tokens");
  if (a.plan.decode > 0) works.push_back(std::to_string(a.plan.decode) + " tokens one after another");
  if (a.plan.sequences > 0) works.push_back(std::to_string(a.plan.sequences) + " sequences of " + a.each);
  std::string text = std::to_string(a.plan.repeat) + " turns of ";
  for (size_t i = 0; i < works.size(); i++) text += (i == 0 ? "" : ", ") + works[i];
  Json document = {{"model", a.shape.empty() ? a.model : a.shape + " " + a.type}};
  document.update(dry_run_document(text + (a.against ? ", and as many of the peer" : ""), {}, needs, common.stage.threads));
  return document;
}

Json bench(Arguments a, const Common& common) {
  parse_each(a.each, a.plan);
  if (a.model.empty() == a.shape.empty()) throw usage("fettle bench needs a MODEL, or --shape");
  if (a.plan.repeat < 1) throw usage("--repeat: at least 1");
  if (a.plan.prefill < 0 || a.plan.decode < 0 || a.plan.sequences < 0) throw usage("--prefill, --decode and --sequences are not below 0");
  if (a.plan.prefill + a.plan.decode + a.plan.sequences == 0)
    throw usage("there is nothing to measure", "--prefill 512 --decode 128 --sequences 16");
  const bool dry = common.stage.dry_run;
  if (!a.shape.empty()) {
    const ShapePlan shape = plan_shape(a.shape, a.type, a.plan.kv);  // refuses a type that cannot be written
    if (dry) return plan_bench(a, shape.cost, double(shape.bytes), common);
  }
  if (dry) {
    const auto model = open_model(a.model, common.stage);
    return plan_bench(a, pass_cost(*model, a.plan.kv), double(model->file->file_bytes()), common);
  }
  if (a.shape.empty()) return measure(a, resolve_model(a.model, common.stage.offline), common);
  ScratchFolder scratch;
  fs::path path = scratch.path() / (a.shape + ".gguf");
  say("writing random weights of the shape " + a.shape + ", " + a.type);
  write_shape(a.shape, a.type, path);
  return measure(a, path, common);
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.add("MODEL", a->model, "a model's name, a GGUF file, a Hugging Face folder, or a source");
  o.add("--shape", a->shape, "random weights of a known shape in place of a MODEL").one_of(shape_names()).called("SHAPE");
  o.add("--type", a->type, "format of these random weights").called("TYPE");
  o.add("--prefill", a->plan.prefill, "tokens of a prompt; 0: not measured");
  o.add("--decode", a->plan.decode, "tokens one after another; 0: not measured");
  o.add("--sequences", a->plan.sequences, "sequences decoded together; 0: not measured");
  o.add("--each", a->each, "prompt and new tokens of each of them").called("P+N");
  add_kv(o, a->plan.kv);
  o.add("--repeat", a->plan.repeat, "turns; the median counts, and one more is timed by operation");
  o.flag("--against", a->against, "llama.cpp (the Python package llama-cpp-python) on the same file, in turns");
  common.add_long(o, false);
  return [a, &common] { return bench(*a, common); };
}

// Where the time of each work goes: the operations that take most of it, and what is left.
void print_ops(const Json& ops) {
  constexpr size_t kMost = 8;
  constexpr double kLeastShare = 0.01;
  Table table({"work", "op", "calls>", "ms>", "share>", "arithmetic", "Gop/s>", "of limit>", "GB/s>", "of limit>", "nearer"});
  bool cached = false;
  for (size_t first = 0, last; first < ops.size(); first = last) {
    const std::string work = ops[first]["work"];
    std::vector<const Json*> by_time;
    for (last = first; last < ops.size() && ops[last]["work"] == work; last++) by_time.push_back(&ops[last]);
    std::stable_sort(by_time.begin(), by_time.end(), [](auto* x, auto* y) { return (*x)["share"] > (*y)["share"]; });
    const double whole = by_time[0]->at("seconds").get<double>() / by_time[0]->at("share").get<double>();
    double rest = 1;
    for (size_t i = 0; i < std::min(kMost, by_time.size()) && (*by_time[i])["share"] >= kLeastShare; i++) {
      const Json& o = *by_time[i];
      const double computed = o["gops_share"], read = o["gbps_share"];
      rest -= o["share"].get<double>();
      cached |= read > 1;
      table.row({i == 0 ? work : "", o["op"], o["calls"].dump(), number("%.2f", 1000 * o["seconds"].get<double>()), percent(o["share"]),
                 o["arithmetic"], number("%.1f", o["gops"]), percent(computed), number("%.1f", o["gbps"]), percent(read),
                 computed > read ? "arithmetic" : "memory"});
    }
    table.row({"", "all else", "", number("%.2f", 1000 * whole * rest), percent(rest)});
  }
  table.print();
  if (cached) std::puts("above 100 % of what memory gives: read from the caches");
}

void print(const Json& d) {
  bool peer = d.contains("peer");
  std::vector<std::string> headings{"work", "tokens>", "sequences>", "tokens/s>", "lowest>", "highest>", "limit>", "share>"};
  if (peer) headings.insert(headings.end(), {d["peer"]["name"].get<std::string>() + ">", "ratio>"});
  Table table(headings);
  for (const Json& r : d["rows"]) {
    auto runs = r["runs"].get<std::vector<double>>();
    auto [low, high] = std::minmax_element(runs.begin(), runs.end());
    std::vector<std::string> cells{r["work"],
                                   r["tokens"].dump(),
                                   r["sequences"].dump(),
                                   number("%.1f", r["tokens_per_s"]),
                                   number("%.1f", *low),
                                   number("%.1f", *high),
                                   number("%.1f", r["limit"]),
                                   percent(r["share"])};
    if (peer)
      for (const Json& p : d["peer"]["rows"])
        if (p["work"] == r["work"]) cells.insert(cells.end(), {number("%.1f", p["tokens_per_s"]), number("%.2f", p["ratio"])});
    table.row(cells);
  }
  table.print();
  const Json& m = d["machine"];
  std::printf(
      "load %.0f ms, first token after %.0f ms; %s threads, %s; the machine reads %.1f GB/s, multiplies %.0f int8, %.0f bf16, %.0f f32 "
      "Gop/s\n",
      d["load_ms"].get<double>(), d["first_token_ms"].get<double>(), d["threads"].dump().c_str(), d["isa"].get<std::string>().c_str(),
      m["read_gbps"].get<double>(), m["int8_gops"].get<double>(), m["bf16_gflops"].get<double>(), m["f32_gflops"].get<double>());
  if (peer && d["peer"].contains("note"))
    std::printf("%s %s\n", d["peer"]["name"].get<std::string>().c_str(), d["peer"]["note"].get<std::string>().c_str());
  std::puts("\nwhere the time goes, in one turn more:");
  print_ops(d["ops"]);
}

}  // namespace

const Command command_bench = {"bench",
                               "Measure",
                               "speed, as a share of what this machine can do",
                               "fettle bench smollm2-135m-instruct\n"
                               "fettle bench tickets --sequences 16 --each 128+64 --against\n"
                               "fettle bench --shape llama-1b --type Q4_K_M --prefill 128 --decode 32 --repeat 3",
                               setup,
                               print};

}  // namespace fettle
