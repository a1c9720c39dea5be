// data show: rows as fettle understands them; with a model, as it will see them, the trained part marked.
#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string data, model;
  int64_t rows = 3, from = 1;
};

Json show(const Arguments& a, const Common& common) {
  Dataset data = read_dataset(a.data);
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;
  if (!a.model.empty()) {
    const Gguf file = open_model_file(resolve_model(a.model, common.stage.offline));
    auto source = read_chat_template(file);
    if (!source) throw refused(file.path().string(), "has no chat template", "`fettle data show` without --model shows the messages");
    tokenizer = std::make_unique<Tokenizer>(read_tokenizer_spec(file));
    chat = std::make_unique<ChatTemplate>(*source, file.path().string());
  }
  Json rows = Json::array();
  for (size_t i = size_t(std::max<int64_t>(a.from, 1) - 1); i < data.examples.size() && int64_t(rows.size()) < a.rows; i++) {
    Json row = conversation(data.examples[i]);
    row["row"] = data.examples[i].row;
    if (chat) {
      TokenRow tokens = ChatFormat(*tokenizer, *chat).train_row(data.examples[i]);
      row["tokens"] = tokens.ids.size();
      row["shown"] = show_row(*tokenizer, tokens);
    }
    rows.push_back(std::move(row));
  }
  return {{"data", a.data},    {"shape", data.shape},
          {"rows", data.rows}, {"accepted", data.examples.size()},
          {"examples", rows},  {"next", {"fettle data check " + a.data}}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.add("DATA", a->data, "a file or folder of examples").require();
  o.add("--model", a->model, "show the text and the trained tokens as this model has them").called("MODEL");
  o.add("--rows", a->rows, "how many");
  o.add("--from", a->from, "first one");
  return [a, &common] { return show(*a, common); };
}

void print(const Json& d) {
  for (const Json& e : d["examples"]) {
    std::printf("row %s%s\n", e["row"].dump().c_str(), e.contains("tokens") ? (", " + e["tokens"].dump() + " tokens").c_str() : "");
    if (e.contains("shown")) {
      std::printf("%s\n", e["shown"].get<std::string>().c_str());
      continue;
    }
    for (const Json& m : e["messages"])
      std::printf("  %-9s %s\n", m["role"].get<std::string>().c_str(), m["content"].get<std::string>().c_str());
  }
  say(d["accepted"].dump() + " of " + d["rows"].dump() + " rows usable, shape " + d["shape"].get<std::string>());
}

}  // namespace

const Command command_data_show = {"data show",
                                   "Data",
                                   "rows as fettle reads them, trained tokens marked",
                                   "fettle data show tickets.jsonl\nfettle data show tickets.jsonl --model smollm2-135m-instruct --rows 1",
                                   setup,
                                   print,
                                   false};

}  // namespace fettle
