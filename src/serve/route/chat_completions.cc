// POST /v1/chat/completions. Source: OpenAI's API reference. Not here: images, audio, structured output, tool calls parsed out of the text.
#include "serve/answering.h"
#include "serve/chat_prompt.h"
#include "serve/log_probs.h"
#include "serve/route.h"

namespace fettle {
namespace {

class ChatShape : public AnswerShape {
 public:
  ChatShape(const Tokenizer& tokenizer, bool log_probs, int top) : tokenizer_(tokenizer), wanted_(log_probs), top_(top) {}
  const char* id_prefix() const override { return "chatcmpl-"; }
  const char* object(bool chunk) const override { return chunk ? "chat.completion.chunk" : "chat.completion"; }
  Json opening(int answer) override { return element(answer, {{"role", "assistant"}, {"content", ""}}, nullptr, {}); }
  Json log_probs(const AnswerEvent& event) override {
    const Piece& piece = event.piece;
    const bool end = piece.finish == Finish::stop && piece.id >= 0 && tokenizer_.is_end(piece.id);
    if (!wanted_ || piece.id < 0 || end) return nullptr;
    return {{"content", Json::array({chat_log_prob(tokenizer_, piece, top_)})}, {"refusal", nullptr}};
  }
  Json delta(int answer, const std::string& text, const Json& log_probs, const std::string& finish) override {
    return element(answer, finish.empty() ? Json{{"content", text}} : Json::object(), log_probs, finish);
  }
  Json whole(int answer, const std::string& text, const Json& log_probs, const std::string& finish) override {
    const Json message = {{"role", "assistant"}, {"content", text}, {"refusal", nullptr}};
    Json lists = log_probs;
    if (wanted_ && lists.is_null()) lists = {{"content", Json::array()}, {"refusal", nullptr}};
    return {{"index", answer}, {"message", message}, {"logprobs", lists}, {"finish_reason", finish}};
  }

 private:
  static Json element(int answer, const Json& delta, const Json& log_probs, const std::string& finish) {
    return {{"index", answer}, {"delta", delta}, {"logprobs", log_probs}, {"finish_reason", finish.empty() ? Json() : Json(finish)}};
  }
  const Tokenizer& tokenizer_;
  const bool wanted_;
  const int top_;
};

struct ChatAsk {
  Ask ask;
  int top = 0;
};

ChatAsk read_chat(const Exchange& exchange) {
  const Json body = parse_object(exchange.request.body());
  const Fields fields(body);
  const auto name = fields.string("model");
  ChatAsk chat;
  Ask& ask = chat.ask;
  ask.model = &exchange.context.text_model(name ? &*name : nullptr);
  AskFields common = read_common(fields, *ask.model, exchange.context.options.temperature);
  ask.stream = common.stream;
  ask.include_usage = common.include_usage;
  ask.log_probs = fields.boolean("logprobs").value_or(false);
  chat.top = int(fields.integer("top_logprobs", 0, 20).value_or(0));
  if (chat.top > 0 && !ask.log_probs) throw bad_value("top_logprobs", "needs 'logprobs': true");
  common.common.top_log_probs = chat.top;
  const ChatInput input = read_chat_input(fields);
  const int context = ask.model->engine->options().context;
  const int most = read_max_tokens(fields, 1, context, context);
  size_t bytes = 0;
  for (const Json& message : input.messages)
    if (message["content"].is_string()) bytes += message["content"].get_ref<const std::string&>().size();
  check_bytes(*ask.model, bytes, "messages");
  std::vector<int> prompt = chat_prompt(ask.model->engine->model(), input);
  check_length(*ask.model, prompt.size(), "messages");
  add_requests(ask, common, prompt, most);
  return chat;
}

boost::asio::awaitable<void> handle(Exchange& exchange) {
  ChatAsk chat = read_chat(exchange);
  ChatShape shape(*chat.ask.model->engine->model().tokenizer, chat.ask.log_probs, chat.top);
  co_await answer(exchange, std::move(chat.ask), shape);
}

}  // namespace

extern const Route chat_completions_route;
const Route chat_completions_route = {.method = "POST", .path = "/v1/chat/completions", .handle = handle};

}  // namespace fettle
