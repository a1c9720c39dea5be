// data split: a training and a held-out file; which row goes where depends on its question and the seed alone.
#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string data;
  double held_out = kHeldOutShare;
  bool skip_bad = false;
};

void write_rows(const fs::path& path, const Dataset& data, const std::vector<size_t>& rows) {
  AtomicFile file(path);
  for (size_t i : rows) file.write(conversation(data.examples[i]).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  file.commit();
}

Json split_rows(const Arguments& a, Common& common) {
  if (!(a.held_out > 0 && a.held_out < 1)) throw usage("--held-out: a share between 0 and 1");
  const Dataset data = read_examples(a.data, a.skip_bad);
  const Split split = split_examples(data, a.data, a.held_out, common.stage.seed);
  const fs::path folder = common.out.empty() ? fs::path(".") : common.out;
  const std::string stem = (fs::absolute(source_path(a.data)) / "").lexically_normal().parent_path().stem().string();  // of "data/" too
  const fs::path train = folder / (stem + "-train.jsonl"), held_out = folder / (stem + "-heldout.jsonl");
  for (const fs::path& path : {train, held_out}) refuse_existing(path, common.stage.force);
  fs::create_directories(folder);
  write_rows(train, data, split.train);
  write_rows(held_out, data, split.held_out);
  return {{"train", train},
          {"held_out", held_out},
          {"train_rows", split.train.size()},
          {"held_out_rows", split.held_out.size()},
          {"next", {"fettle fit " + train.string() + " --held-out " + held_out.string()}}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.add("DATA", a->data, "a file or folder of examples").require();
  o.add("--held-out", a->held_out, "share of the rows to hold out");
  o.flag("--skip-bad", a->skip_bad, "leave out rows that cannot be used");
  common.add_output(o, "folder for the two files (default: this one)");
  return [a, &common] { return split_rows(*a, common); };
}

void print(const Json& d) {
  for (const char* side : {"train", "held_out"}) {
    const auto rows = d[std::string(side) + "_rows"].get<size_t>();
    std::printf("%s  %zu row%s\n", d[side].get<std::string>().c_str(), rows, rows == 1 ? "" : "s");
  }
}

}  // namespace

const Command command_data_split = {"data split",
                                    "Data",
                                    "a training and a held-out file, always the same ones",
                                    "fettle data split tickets.jsonl --held-out 0.1 --out split",
                                    setup,
                                    print,
                                    false};

}  // namespace fettle
