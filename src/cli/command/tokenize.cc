// tokenize: text from standard input -> token ids, a door for tests and programs.
#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model;
  bool special = false, lines = false;
};

std::vector<int> encode(const Tokenizer& tokenizer, std::string_view text, bool special) {
  return special ? tokenizer.encode_special(text, true) : tokenizer.encode(text);
}

Json tokenize(const Arguments& a, const Common& common) {
  const Gguf file = open_model_file(resolve_model(a.model, common.stage.offline));
  Tokenizer tokenizer(read_tokenizer_spec(file));
  std::string text = read_input("-");
  if (!a.lines) return {{"ids", encode(tokenizer, text, a.special)}};
  std::vector<std::string> lines = split(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();  // what follows the last line break is no line
  Json rows = Json::array();
  for (const std::string& line : lines) rows.push_back(encode(tokenizer, line, a.special));
  return {{"lines", rows}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.flag("--special", a->special, "read special tokens in the text, add the model's begin and end tokens");
  o.flag("--lines", a->lines, "one array for each line of the input");
  return [a, &common] { return tokenize(*a, common); };
}

void print(const Json& d) {
  if (d.contains("ids"))
    std::puts(d["ids"].dump().c_str());
  else
    for (const Json& row : d["lines"]) std::puts(row.dump().c_str());
}

}  // namespace

const Command command_tokenize = {"tokenize",
                                  "Files",
                                  "text from standard input as token ids",
                                  "fettle tokenize smollm2-135m-instruct < letter.txt\n"
                                  "fettle tokenize smollm2-135m-instruct --special --lines < prompts.txt",
                                  setup,
                                  print,
                                  false};

}  // namespace fettle
