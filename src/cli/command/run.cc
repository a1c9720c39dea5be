// run: one answer to one prompt, streamed as it comes.
#include <unistd.h>

#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, draft, system, activations;
  std::vector<std::string> prompt, stop, choices;
  bool raw = false;
  int max_tokens = 512;
  Sampling sampling;
  EngineOptions engine;
};

// With --raw spaces are text like any other, and nothing at all is a prompt where the model has a begin token; a question has words.
std::string prompt_text(const Arguments& a) {
  std::string text;
  for (const std::string& word : a.prompt) text += (text.empty() ? "" : " ") + word;
  const bool given = !a.prompt.empty() && text != "-";
  if (!given) {
    if (::isatty(STDIN_FILENO) && text != "-")
      throw usage("fettle run needs a PROMPT, as an argument or on standard input", "`fettle chat` talks");
    text = read_input("-");
    if (!a.raw && text.ends_with('\n')) text.pop_back();
  }
  if (!a.raw && trim(text).empty())
    throw refused(given ? "PROMPT" : "stdin",
                  text.empty() ? "is empty: there is no question" : "holds nothing but spaces: there is no question",
                  given ? "" : "give the question as an argument, or pipe text in");
  return text;
}

std::vector<int> prompt_ids(const Model& model, const Arguments& a, const std::string& text) {
  if (a.raw) return model.tokenizer->encode_special(text, true);
  std::vector<Message> messages;
  if (!a.system.empty()) messages.push_back({"system", a.system});
  messages.push_back({"user", text});
  return model.chat_format().prompt(messages);
}

Json run(const Arguments& a, const Common& common) {
  std::string text = prompt_text(a);
  auto model = open_model(a.model, common.stage);
  model->require_text();
  if (!a.raw && !model->chat_template)
    throw refused(a.model, "has no chat template, so it cannot take a question", "`fettle run --raw` continues plain text");
  Request request;
  request.prompt = prompt_ids(*model, a, text);
  if (request.prompt.empty()) throw refused("prompt", "is empty, and this model has no begin token to start from", "give some text");
  request.sampling = a.sampling;
  request.sampling.seed = common.stage.seed;
  request.max_tokens = a.max_tokens;
  request.stop = a.stop;
  if (!a.choices.empty()) request.choices = std::make_shared<Choices>(*model->tokenizer, a.choices);
  EngineOptions options = a.engine;
  options.parallel = 1;
  options.draft = open_draft(a.draft, common.stage);
  options.precision = activation_precision(a.activations);
  auto engine = make_engine(model, options, common.stage);
  Answered got = answer(*engine, request, [&](const std::string& piece) {
    if (common.json) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  });
  if (!common.json && (::isatty(STDOUT_FILENO) || !a.raw) && !got.text.ends_with('\n')) std::puts("");
  if (got.finish == Finish::cancelled && interrupted())
    throw Error(Exit::interrupted, {}, "interrupted after " + std::to_string(got.ids.size()) + " tokens");
  Json document = got.json();
  document["model"] = a.model;
  document["ids"] = got.ids;
  if (got.finish == Finish::length) document["closing"] = "cut at " + std::to_string(got.ids.size()) + " tokens (--max-tokens)";
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("PROMPT", a->prompt, "the question; left out or -: standard input");
  o.flag("--raw", a->raw, "no chat template: print the continuation alone");
  o.add("--system", a->system, "a system message before the question");
  o.add("--max-tokens", a->max_tokens, "most tokens of the answer");
  o.add("--stop", a->stop, "text that ends the answer (may be given several times)");
  o.add("--choice", a->choices, "the answer is one of these (give it several times)");
  add_sampling(o, a->sampling);
  add_engine(o, a->engine, a->draft);
  add_activations(o, a->activations);
  return [a, &common] { return run(*a, common); };
}

}  // namespace

const Command command_run = {"run",
                             "Use",
                             "one answer, streamed as it comes",
                             "fettle run smollm2-135m-instruct \"Name three rivers.\"\n"
                             "fettle run tickets --choice refund --choice delivery \"Where is my parcel?\"\n"
                             "fettle run smollm2-135m-instruct --raw --temperature 0 --max-tokens 40 \"Once upon a time\"\n"
                             "cat letter.txt | fettle run smollm2-135m-instruct --system \"Summarise in one sentence.\"",
                             setup,
                             nullptr};

}  // namespace fettle
