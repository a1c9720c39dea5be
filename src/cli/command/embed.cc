// embed: texts as vectors, for search, for finding what is alike, for classifiers of one's own.
#include <unistd.h>

#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, file, pooling = "auto", activations;
  std::vector<std::string> texts;
  bool raw = false;  // --no-normalize
};

std::vector<std::string> texts_of(const Arguments& a) {
  if (!a.texts.empty() && !a.file.empty()) throw usage("texts are given as arguments or in --file, not both");
  if (!a.texts.empty() && a.texts != std::vector<std::string>{"-"}) return a.texts;
  if (a.texts.empty() && a.file.empty() && ::isatty(STDIN_FILENO))
    throw usage("fettle embed needs a TEXT, as an argument, on standard input (one a line) or in --file");
  std::vector<std::string> lines = split(read_input(a.file), '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();  // what follows the last line break is no line
  for (std::string& line : lines)
    if (line.ends_with('\r')) line.pop_back();
  if (lines.empty()) throw refused(a.file.empty() ? "stdin" : a.file, "is empty");
  return lines;
}

std::optional<Pooling> pooling_of(const std::string& name) {
  if (name == "mean") return Pooling::mean;
  if (name == "cls") return Pooling::cls;
  if (name == "last") return Pooling::last;
  return std::nullopt;
}

Json embed(const Arguments& a, const Common& common) {
  const std::vector<std::string> texts = texts_of(a);
  auto model = open_model(a.model, common.stage);
  Embedder embedder(model, {.pooling = pooling_of(a.pooling),
                            .normalize = !a.raw,
                            .threads = common.stage.threads,
                            .precision = activation_precision(a.activations)});
  std::vector<std::vector<int>> ids;
  size_t tokens = 0, shortened = 0;
  for (const std::string& text : texts) {
    bool cut = false;
    ids.push_back(embedder.encode(text, cut));
    tokens += ids.back().size();
    shortened += cut;
  }
  if (shortened)
    warn(std::to_string(shortened) + (shortened == 1 ? " text was" : " texts were") + " cut to the " +
         std::to_string(model->config.context) + " tokens that the model reads");
  Progress progress("embed", int64_t(texts.size()), "texts");
  const auto vectors = embedder.embed(ids, [&](size_t done) {
    progress.update(int64_t(done));
    stop_if_interrupted();
  });
  progress.finish();
  return {{"model", a.model},      {"dimensions", model->config.d_model},
          {"texts", texts.size()}, {"tokens", tokens},
          {"cut", shortened},      {"normalized", !a.raw},
          {"embeddings", vectors}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("TEXT", a->texts, "texts; left out or -: the lines of standard input");
  o.add("--file", a->file, "a file with one text a line").called("FILE");
  o.add("--pooling", a->pooling, "how a text's states become one vector: their mean, the first, the last; auto: as the model says")
      .one_of({"auto", "mean", "cls", "last"})
      .called("HOW");
  o.flag("--no-normalize", a->raw, "vectors as long as they come, not of length 1");
  add_activations(o, a->activations);
  return [a, &common] { return embed(*a, common); };
}

void print(const Json& d) {
  for (const Json& vector : d["embeddings"]) {
    std::string line;
    char number[32];
    for (const Json& v : vector) {
      std::snprintf(number, sizeof number, "%.9g", v.get<double>());
      line += (line.empty() ? "" : " ") + std::string(number);
    }
    std::puts(line.c_str());
  }
}

}  // namespace

const Command command_embed = {"embed",
                               "Use",
                               "texts as vectors, one a line",
                               "fettle embed all-minilm-l6-v2/ \"Where is my parcel?\"\n"
                               "fettle embed all-minilm-l6-v2/ --file questions.txt --json > vectors.json\n"
                               "fettle embed smollm2-135m-instruct --pooling mean < questions.txt",
                               setup,
                               print,
                               false};

}  // namespace fettle
