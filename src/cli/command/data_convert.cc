// data convert: any shape that fettle reads -> chat JSONL, or prompt and completion.
#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string data, to = "openai";
  bool skip_bad = false;
};

Json prompt_completion(const Example& e) {
  std::string prompt;
  for (size_t i = 0; i + 1 < e.messages.size(); i++) prompt += (i ? "\n\n" : "") + e.messages[i].content;
  return {{"prompt", prompt}, {"completion", e.answer()}};
}

Json convert(const Arguments& a, Common& common) {
  Dataset data = read_dataset(a.data);
  if (!a.skip_bad) data.require_clean();
  std::string text;
  for (const Example& e : data.examples)
    text += (a.to == "openai" ? conversation(e) : prompt_completion(e)).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (!common.out.empty()) {
    refuse_existing(common.out, common.stage.force);
    write_text(common.out, text);
  } else if (common.json) {
    throw usage("--json needs --out: the rows would mix with the document");
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  Json document = {{"rows", data.rows},
                   {"written", data.examples.size()},
                   {"skipped", data.rows - int64_t(data.examples.size())},
                   {"shape", data.shape}};
  if (!common.out.empty()) document["out"] = common.out;
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.add("DATA", a->data, "a file or folder of examples; data.csv:text=message,label=intent names columns").require();
  o.add("--to", a->to, "shape to write").one_of({"openai", "prompt-completion"}).called("SHAPE");
  o.flag("--skip-bad", a->skip_bad, "leave out rows that cannot be used");
  common.add_output(o, "file to write (default: standard output)");
  return [a, &common] { return convert(*a, common); };
}

void print(const Json& d) { say(d["written"].dump() + " rows written, " + d["skipped"].dump() + " left out"); }

}  // namespace

const Command command_data_convert = {"data convert",
                                      "Data",
                                      "examples of any shape as chat JSONL",
                                      "fettle data convert tickets.csv:text=message,label=intent --out tickets.jsonl\n"
                                      "fettle data convert alpaca.json > chat.jsonl",
                                      setup,
                                      print,
                                      false};

}  // namespace fettle
