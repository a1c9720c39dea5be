// detokenize: JSON arrays of ids from standard input -> text, byte for byte.
#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model;
  bool special = false, lines = false;
};

Json parsed(const std::string& text, const std::string& place) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& e) {
    throw refused(place, "is not a JSON array of token ids");
  }
}

Json detokenize(const Arguments& a, const Common& common) {
  const Gguf file = open_model_file(resolve_model(a.model, common.stage.offline));
  Tokenizer tokenizer(read_tokenizer_spec(file));
  std::vector<std::string> inputs{read_input("-")};
  if (a.lines) inputs = split(inputs[0], '\n');
  if (a.lines && !inputs.empty() && inputs.back().empty()) inputs.pop_back();
  std::string text;
  for (size_t i = 0; i < inputs.size(); i++) {
    std::string place = "stdin:" + std::to_string(i + 1);
    text += tokenizer.decode(ids_of(parsed(inputs[i], place), tokenizer.size(), place), a.special) + (a.lines ? "\n" : "");
  }
  if (!common.json) std::fwrite(text.data(), 1, text.size(), stdout);
  return {{"text", text}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.flag("--special", a->special, "show special tokens too");
  o.flag("--lines", a->lines, "an array on each line, a text for each");
  return [a, &common] { return detokenize(*a, common); };
}

}  // namespace

const Command command_detokenize = {
    "detokenize", "Files", "token ids from standard input as text", "echo '[504, 338]' | fettle detokenize smollm2-135m-instruct", setup,
    nullptr,      false};

}  // namespace fettle
