// POST /v1/completions. Source: OpenAI's API reference (legacy completions). The prompt is a string, a list of strings, a list of token ids
// or a list of such lists. Special tokens in a prompt's text count: whoever completes raw text writes the model's own format. With echo and
// logprobs the prompt is scored too (max_tokens may be 0), which is what evaluation harnesses ask for. Not here: suffix, best_of.
#include <algorithm>

#include "serve/answering.h"
#include "serve/log_probs.h"
#include "serve/route.h"

namespace fettle {
namespace {

constexpr size_t kMaxPrompts = 256, kMaxAnswers = 256;
constexpr char kPromptWords[] = "a string, a list of strings, a list of token ids or a list of such lists";

struct Prompt {
  std::vector<int> ids;
  std::string text;
};

struct TextAsk {
  Ask ask;
  std::vector<Prompt> prompts;
  int n = 1, top = 0;
  bool echo = false;
};

class TextShape : public AnswerShape {
 public:
  TextShape(const Tokenizer& tokenizer, const TextAsk& text)
      : tokenizer_(tokenizer),
        prompts_(text.prompts),
        n_(text.n),
        top_(text.top),
        wanted_(text.ask.log_probs),
        echo_(text.echo),
        offsets_(text.prompts.size() * size_t(text.n)),
        begun_(offsets_.size()) {}
  const char* id_prefix() const override { return "cmpl-"; }
  const char* object(bool) const override { return "text_completion"; }
  Json opening(int answer) override { return echo_ ? element(answer, prompt(answer).text, nullptr, {}) : Json(); }
  Json log_probs(const AnswerEvent& event) override {
    const Piece& piece = event.piece;
    if (!wanted_) return nullptr;
    const size_t answer = size_t(event.answer);
    CompletionLogProbs lists;
    if (echo_ && !begun_[answer]) lists.add(tokenizer_, prompt(event.answer).ids.front(), nullptr, top_, offsets_[answer]);
    if (piece.id < 0 && (begun_[answer] || !echo_)) return nullptr;
    begun_[answer] = true;
    if (piece.id >= 0) lists.add(tokenizer_, piece.id, &piece, top_, offsets_[answer]);
    return lists.take();
  }
  Json delta(int answer, const std::string& text, const Json& log_probs, const std::string& finish) override {
    return element(answer, text, log_probs, finish);
  }
  Json whole(int answer, const std::string& text, const Json& log_probs, const std::string& finish) override {
    return element(answer, echo_ ? prompt(answer).text + text : text, log_probs, finish);
  }

 private:
  const Prompt& prompt(int answer) const { return prompts_[size_t(answer / n_)]; }
  static Json element(int answer, const std::string& text, const Json& log_probs, const std::string& finish) {
    return {{"text", text}, {"index", answer}, {"logprobs", log_probs}, {"finish_reason", finish.empty() ? Json() : Json(finish)}};
  }
  const Tokenizer& tokenizer_;
  const std::vector<Prompt>& prompts_;
  const int n_, top_;
  const bool wanted_, echo_;
  std::vector<size_t> offsets_;  // characters of each answer so far
  std::vector<bool> begun_;
};

Prompt read_text(const Tokenizer& tokenizer, std::string text) {
  Prompt prompt;
  const int bos = tokenizer.spec().add_bos ? tokenizer.spec().bos : -1;
  prompt.ids = tokenizer.encode_special(text, false);
  if (bos >= 0 && (prompt.ids.empty() || prompt.ids.front() != bos)) prompt.ids.insert(prompt.ids.begin(), bos);
  if (prompt.ids.empty()) throw bad_value("prompt", "is empty");
  prompt.text = std::move(text);
  return prompt;
}

Prompt read_ids(const Tokenizer& tokenizer, const Json& list) {
  Prompt prompt;
  prompt.ids = fettle::read_ids(list, tokenizer.size(), "prompt", kPromptWords);
  prompt.text = tokenizer.decode(prompt.ids, true);
  return prompt;
}

std::vector<Prompt> read_prompts(const Fields& fields, const Tokenizer& tokenizer) {
  const Json* prompt = fields.find("prompt");
  if (!prompt) throw ApiError(400, "'prompt' is missing", "missing_required_parameter", "prompt");
  if (prompt->is_string()) return {read_text(tokenizer, prompt->get<std::string>())};
  if (!prompt->is_array()) throw bad_type("prompt", kPromptWords);
  if (prompt->empty()) throw bad_value("prompt", "is empty");
  if (prompt->front().is_number()) return {read_ids(tokenizer, *prompt)};
  if (prompt->size() > kMaxPrompts) throw bad_value("prompt", "holds more than " + std::to_string(kMaxPrompts) + " prompts");
  std::vector<Prompt> prompts;
  for (const Json& one : *prompt) {
    prompts.push_back(one.is_string() ? read_text(tokenizer, one.get<std::string>()) : read_ids(tokenizer, one));
  }
  return prompts;
}

void refuse_unsupported(const Fields& fields, int n) {
  if (const auto suffix = fields.string("suffix"); suffix && !suffix->empty()) throw unsupported("suffix", "is not supported");
  if (fields.integer("best_of", 1, 1 << 30).value_or(n) != n) throw unsupported("best_of", "other than 'n' is not supported");
}

TextAsk read_completion(const Exchange& exchange) {
  const Json body = parse_object(exchange.request.body());
  const Fields fields(body);
  const auto name = fields.string("model");
  TextAsk text;
  Ask& ask = text.ask;
  ask.model = &exchange.context.text_model(name ? &*name : nullptr);
  AskFields common = read_common(fields, *ask.model, exchange.context.options.temperature);
  refuse_unsupported(fields, common.n);
  ask.stream = common.stream;
  ask.include_usage = common.include_usage;
  const auto top = fields.integer("logprobs", 0, 20);
  ask.log_probs = top.has_value();
  text.top = int(top.value_or(0));
  text.echo = fields.boolean("echo").value_or(false);
  text.n = common.n;
  const int most = read_max_tokens(fields, 0, 16, ask.model->engine->options().context);
  common.common.top_log_probs = text.top;
  common.common.prompt_log_probs = (text.echo && ask.log_probs) || most == 0;
  if (const Json* given = fields.find("prompt"))
    for (const Json& one : given->is_array() ? *given : Json::array({*given}))
      if (one.is_string()) check_bytes(*ask.model, one.get_ref<const std::string&>().size(), "prompt");
  text.prompts = read_prompts(fields, *ask.model->engine->model().tokenizer);
  if (text.prompts.size() * size_t(text.n) > kMaxAnswers) {
    throw bad_value("prompt", "and 'n' ask for more than " + std::to_string(kMaxAnswers) + " answers");
  }
  for (const Prompt& prompt : text.prompts) {
    check_length(*ask.model, prompt.ids.size(), "prompt");
    add_requests(ask, common, prompt.ids, most);
  }
  return text;
}

boost::asio::awaitable<void> handle(Exchange& exchange) {
  TextAsk text = read_completion(exchange);
  TextShape shape(*text.ask.model->engine->model().tokenizer, text);
  co_await answer(exchange, std::move(text.ask), shape);
}

}  // namespace

extern const Route completions_route;
const Route completions_route = {.method = "POST", .path = "/v1/completions", .handle = handle};

}  // namespace fettle
