// data check: what a file of examples would do to a model, before it costs time. The checks are text's and pipeline's.
#include "cli/model_use.h"
#include "cli/table.h"

namespace fettle {
namespace {

struct Arguments {
  std::string data, held_out, model;
  int max_tokens = 2048;
};

size_t how_many(const Json& value) { return value.is_array() ? value.size() : value.is_number() ? value.get<size_t>() : 0; }

Json check(const Arguments& a, const Common& common) {
  Json document = data_check(a.data, a.held_out, a.model, a.max_tokens, common.stage.offline);
  bool all = document.value("clean", document.value("rows", int64_t(0)) == document.value("accepted", int64_t(0)));
  if (!document.contains("passed")) document["passed"] = all;
  if (!document.contains("next") && document["accepted"] != 0)
    document["next"] = {"fettle fit " + a.data + (a.held_out.empty() ? "" : " --held-out " + a.held_out) + (all ? "" : " --skip-bad")};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.add("DATA", a->data, "a file or folder of examples; data.csv:text=message,label=intent names columns").require();
  o.add("--held-out", a->held_out, "rows to measure on: what of them stands in DATA too (default: of a split of DATA)").called("DATA");
  o.add("--model", a->model, "count tokens as this model does (characters without it), and prove that training and serving agree")
      .called("MODEL");
  o.add("--max-tokens", a->max_tokens, "rows longer than this would be cut");
  return [a, &common] { return check(*a, common); };
}

void print(const Json& d) {
  std::vector<std::pair<std::string, std::string>> lines{{"rows", d["rows"].dump()}, {"accepted", d["accepted"].dump()}};
  for (const char* key : {"duplicates", "near_duplicates", "leaks", "conflicts"})
    if (d.contains(key)) lines.emplace_back(key, std::to_string(how_many(d[key])));
  const auto lengths = [](const Json& l) { return "p50 " + l["p50"].dump() + ", p90 " + l["p90"].dump() + ", longest " + l["max"].dump(); };
  if (d["characters"].is_object()) lines.emplace_back("characters", lengths(d["characters"]));
  if (d["tokens"].is_object()) lines.emplace_back("tokens", lengths(d["tokens"]) + ", cut " + d["tokens"]["truncated"].dump());
  std::fputs(pairs_text(lines).c_str(), stdout);
  constexpr size_t kShown = 20;
  size_t shown = 0;
  if (d["rows"] == 0) std::puts("there are no rows");
  const auto place = [](const Json& end) { return end.value("file", "") + ":" + end["row"].dump(); };
  const Json pairs = d.value("pairs", Json::array());
  for (const Json& p : pairs) {
    if (shown++ == kShown) break;
    std::printf("%s: %s and %s\n", p.value("kind", "").c_str(), place(p["a"]).c_str(), place(p["b"]).c_str());
  }
  if (pairs.size() > kShown) std::printf("… and %zu more pairs; --json lists them\n", pairs.size() - kShown);
  shown = 0;
  for (const Json& p : d["problems"]) {
    if (shown++ == kShown) break;
    std::printf("%s:%s: %s\n", p.value("file", "").c_str(), p["row"].dump().c_str(), p.value("message", "").c_str());
  }
  if (d["problems"].size() > kShown) std::printf("… and %zu more; --json lists all\n", d["problems"].size() - kShown);
}

}  // namespace

const Command command_data_check = {"data check",
                                    "Data",
                                    "what is wrong with examples, before they cost time",
                                    "fettle data check tickets.jsonl\n"
                                    "fettle data check tickets.csv:text=message,label=intent --model smollm2-135m-instruct",
                                    setup,
                                    print};

}  // namespace fettle
