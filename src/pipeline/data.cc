// Examples before they cost anything: read, checked, split, and looked at. What is said here is what people should know before hours pass.
// Held-out rows stay honest: a training row that asks a held-out row's very question is left out of training.
#include <algorithm>
#include <unordered_set>

#include "pipeline/stage.h"

namespace fettle {
namespace {

constexpr double kSame = 1 - 1e-9;
constexpr size_t kShown = 5, kPairsListed = 100;

std::string rows_text(size_t n) { return std::to_string(n) + (n == 1 ? " row" : " rows"); }

std::string place(const Example& example) { return example.file + ":" + std::to_string(example.row); }

// Train rows first, then held-out rows: the report's indices point into this.
Dataset joined(const PreparedData& data) {
  Dataset all;
  all.examples = data.train;
  all.examples.insert(all.examples.end(), data.held_out.begin(), data.held_out.end());
  return all;
}

std::vector<size_t> range(size_t begin, size_t end) {
  std::vector<size_t> indices;
  for (size_t i = begin; i < end; i++) indices.push_back(i);
  return indices;
}

std::vector<Example> pick(const Dataset& data, const std::vector<size_t>& indices) {
  std::vector<Example> examples;
  for (size_t i : indices) examples.push_back(data.examples[i]);
  return examples;
}

void tell_pairs(const char* what, const std::vector<DataReport::Pair>& pairs, const Dataset& all) {
  if (pairs.empty()) return;
  std::string text = std::to_string(pairs.size()) + " " + what + ": ";
  for (size_t i = 0; i < std::min(kShown, pairs.size()); i++)
    text += (i ? "; " : "") + place(all.examples[pairs[i].a]) + " and " + place(all.examples[pairs[i].b]);
  warn(text + (pairs.size() > kShown ? "; ..." : ""));
}

void tell_warnings(const std::vector<Problem>& warnings) {
  for (size_t i = 0; i < std::min(kShown, warnings.size()); i++)
    warn(warnings[i].file + ":" + std::to_string(warnings[i].row) + ": " + warnings[i].message);
  if (warnings.size() > kShown)
    warn(std::to_string(warnings.size() - kShown) + " more rows deserve a look: `fettle data check` lists them");
}

void drop_leaks(PreparedData& data) {
  std::unordered_set<size_t> leaked;
  for (const DataReport::Pair& pair : data.report.leaks)
    if (pair.similarity >= kSame) leaked.insert(pair.a);
  if (leaked.empty()) return;
  if (leaked.size() == data.train.size())
    throw refused(data.held_out.front().file, "holds every question of the training rows: nothing would be left to train on",
                  "leave out --held-out, and rows are held out of the data itself");
  std::vector<Example> kept;
  for (size_t i = 0; i < data.train.size(); i++)
    if (!leaked.count(i)) kept.push_back(std::move(data.train[i]));
  data.train = std::move(kept);
  warn(std::to_string(leaked.size()) + " training rows ask a held-out row's very question and are left out of training");
}

Json pairs_json(const std::vector<DataReport::Pair>& pairs, const char* kind, const Dataset& all) {
  Json list = Json::array();
  for (size_t i = 0; i < std::min(kPairsListed, pairs.size()); i++) {
    const Example &a = all.examples[pairs[i].a], &b = all.examples[pairs[i].b];
    list.push_back({{"kind", kind},
                    {"a", {{"file", a.file}, {"row", a.row}}},
                    {"b", {{"file", b.file}, {"row", b.row}}},
                    {"similarity", pairs[i].similarity}});
  }
  return list;
}

void add_counts(Json& document, const DataReport& report, const Dataset& all) {
  document["duplicates"] = report.duplicates.size();
  document["near_duplicates"] = report.near_duplicates.size();
  document["leaks"] = report.leaks.size();
  document["conflicts"] = report.conflicts.size();
  Json pairs = Json::array();
  for (const auto& [kind, list] : {std::pair{"duplicate", &report.duplicates},
                                   {"near-duplicate", &report.near_duplicates},
                                   {"leak", &report.leaks},
                                   {"conflict", &report.conflicts}})
    for (Json& pair : pairs_json(*list, kind, all)) pairs.push_back(std::move(pair));
  document["pairs"] = std::move(pairs);
}

// How long rows are, in characters of all their messages: what can be said before a model is named.
Json lengths_json(const std::vector<Example>& examples) {
  if (examples.empty()) return nullptr;
  std::vector<int64_t> lengths;
  for (const Example& example : examples) {
    int64_t characters = 0;
    for (const Message& m : example.messages)
      characters +=
          std::count_if(m.content.begin(), m.content.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    lengths.push_back(characters);
  }
  std::sort(lengths.begin(), lengths.end());
  // The smallest length that this share of all rows does not exceed.
  const auto quantile = [&](size_t percent) { return lengths[(lengths.size() * percent + 99) / 100 - 1]; };
  return {{"p50", quantile(50)}, {"p90", quantile(90)}, {"max", lengths.back()}};
}

Json problems_json(const std::vector<Problem>& problems) {
  Json list = Json::array();
  for (const Problem& p : problems)
    list.push_back({{"file", p.file}, {"row", p.row}, {"kind", p.kind}, {"message", p.message}, {"fatal", p.fatal}});
  return list;
}

}  // namespace

Dataset read_examples(const std::string& source, bool skip_bad) {
  Dataset data = read_dataset(source);
  if (!skip_bad) data.require_clean();
  if (data.rows == 0) throw refused(source, "holds no rows");
  const auto bad = std::count_if(data.problems.begin(), data.problems.end(), [](const Problem& p) { return p.fatal; });
  if (data.examples.empty()) throw refused(source, "has no row that can be used", "`fettle data check " + source + "` lists what is wrong");
  if (bad) warn(source + ": " + rows_text(size_t(bad)) + " cannot be used and " + (bad == 1 ? "is" : "are") + " left out");
  return data;
}

Split split_examples(const Dataset& data, const std::string& source, double held_out_fraction, uint64_t seed) {
  Split split = split_dataset(data, held_out_fraction, seed);
  if (split.train.empty() || split.held_out.empty())
    throw refused(source,
                  data.examples.size() == 1
                      ? "has one row: there is nothing to hold out"
                      : "asks one question in all its " + rows_text(data.examples.size()) + ": rows of one question stay together",
                  "at least two different questions are needed");
  return split;
}

PreparedData prepare_data(const std::string& source, const std::string& held_out_source, double held_out_fraction, bool skip_bad,
                          uint64_t seed) {
  PreparedData data;
  data.data = read_examples(source, skip_bad);
  if (held_out_source.empty()) {
    const Split split = split_examples(data.data, source, held_out_fraction, seed);
    data.train = pick(data.data, split.train);
    data.held_out = pick(data.data, split.held_out);
  } else {
    data.held_out_data = read_examples(held_out_source, skip_bad);
    data.train = data.data.examples;
    data.held_out = data.held_out_data.examples;
  }
  const Dataset all = joined(data);
  const size_t n = data.train.size();
  data.report = inspect_dataset(all, range(0, n), range(n, all.examples.size()));
  say(source + ": " + data.data.shape + ", " + std::to_string(n) + " rows to train on, " + std::to_string(data.held_out.size()) +
      " held out");
  tell_pairs("duplicates", data.report.duplicates, all);
  tell_pairs("near-duplicates", data.report.near_duplicates, all);
  tell_pairs("questions have two answers", data.report.conflicts, all);
  tell_pairs("held-out rows look like training rows", data.report.leaks, all);
  tell_warnings(data.report.warnings);
  drop_leaks(data);
  return data;
}

std::vector<TokenRow> token_rows(const ChatFormat& format, const std::vector<Example>& examples) {
  std::vector<TokenRow> rows;
  rows.reserve(examples.size());
  for (const Example& example : examples) {
    if (rows.size() % 256 == 0) stop_if_interrupted();
    rows.push_back(format.train_row(example));
    rows.back().row = int64_t(rows.size()) - 1;
  }
  return rows;
}

void prove_and_show(const ChatFormat& format, const std::vector<Example>& train) {
  std::vector<Example> sample(train.begin(), train.begin() + long(std::min<size_t>(32, train.size())));
  prove_parity(format, sample);
  say("training rows are, token for token, what serving will send; the loss covers the marked part:");
  say(show_row(format.tokenizer(), format.train_row(train.front())));
}

Json statistics_json(const TokenStatistics& s) {
  return {{"p50", s.p50}, {"p90", s.p90}, {"max", s.max}, {"total", s.total}, {"trained", s.trained}, {"truncated", s.truncated}};
}

Json report_json(const PreparedData& data) {
  Json document = {{"rows", data.data.rows + data.held_out_data.rows},
                   {"accepted", data.data.examples.size() + data.held_out_data.examples.size()},
                   {"train", data.train.size()},
                   {"held_out", data.held_out.size()},
                   {"shape", data.data.shape},
                   {"digest", data.data.digest},
                   {"held_out_digest", data.held_out_data.digest}};
  document["duplicates"] = data.report.duplicates.size();
  document["near_duplicates"] = data.report.near_duplicates.size();
  document["leaks"] = data.report.leaks.size();
  document["conflicts"] = data.report.conflicts.size();
  document["warnings"] = data.report.warnings.size();
  return document;
}

Json data_check(const std::string& source, const std::string& held_out_source, const std::string& model_name, int max_tokens,
                bool offline) {
  Dataset data = read_dataset(source);
  const size_t trained = data.examples.size();
  std::string held_out_digest;
  if (!held_out_source.empty()) {
    Dataset held_out = read_dataset(held_out_source);
    held_out_digest = held_out.digest;
    data.rows += held_out.rows;
    std::move(held_out.examples.begin(), held_out.examples.end(), std::back_inserter(data.examples));
    std::move(held_out.problems.begin(), held_out.problems.end(), std::back_inserter(data.problems));
  }
  Json document = {
      {"source", source}, {"shape", data.shape}, {"digest", data.digest}, {"rows", data.rows}, {"accepted", data.examples.size()}};
  if (!held_out_source.empty()) document["held_out"] = held_out_source, document["held_out_digest"] = held_out_digest;
  Json problems = problems_json(data.problems);
  DataReport report;
  if (!data.examples.empty()) {
    const Split split =
        held_out_source.empty() ? split_dataset(data, kHeldOutShare, 0) : Split{range(0, trained), range(trained, data.examples.size())};
    report = inspect_dataset(data, split.train, split.held_out);
    document["split"] = {{"train", split.train.size()}, {"held_out", split.held_out.size()}};
  }
  for (Json& warning : problems_json(report.warnings)) problems.push_back(std::move(warning));
  document["problems"] = std::move(problems);
  add_counts(document, report, data);
  document["characters"] = lengths_json(data.examples);
  document["tokens"] = nullptr;  // a model counts them
  if (!model_name.empty() && !data.examples.empty()) {
    auto model = Model::open(resolve_model(model_name, offline));
    const ChatFormat format = model->chat_format();
    prove_and_show(format, data.examples);
    document["tokens"] = statistics_json(token_statistics(token_rows(format, data.examples), max_tokens));
    document["model"] = model_name;
    document["parity"] = true;
  }
  document["clean"] =
      !data.examples.empty() && std::none_of(data.problems.begin(), data.problems.end(), [](const Problem& p) { return p.fatal; });
  return document;
}

}  // namespace fettle
