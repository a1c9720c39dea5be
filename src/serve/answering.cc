#include "serve/answering.h"

#include "serve/admission.h"

namespace fettle {
namespace {

namespace asio = boost::asio;

constexpr size_t kWriteBytes = 32 << 10;  // of a stream, put together before they are sent

// However the route ends, nobody works on for nothing.
struct Abandon {
  std::shared_ptr<Generation> generation;
  ~Abandon() { generation->abandon(); }
};

// One answer as far as it has come.
struct Growing {
  std::string text, finish;
  Json log_probs;
};

struct Tally {
  int completion_tokens = 0, cached_tokens = 0;
  bool first = true;
};

void join(Json& all, const Json& part) {
  if (part.is_null()) return;
  if (all.is_null()) {
    all = part;
    return;
  }
  for (const auto& [key, value] : part.items()) {
    if (value.is_array()) all[key].insert(all[key].end(), value.begin(), value.end());
  }
}

void count(Exchange& exchange, const AnswerEvent& event, Tally& tally) {
  tally.completion_tokens += event.tokens;
  tally.cached_tokens = std::max(tally.cached_tokens, event.piece.cached_tokens);
  exchange.completion_tokens = tally.completion_tokens;
  if (event.tokens > 0 && tally.first) {
    tally.first = false;
    exchange.context.metrics.first_token(now_seconds() - exchange.started);
  }
}

// The engine could not, or was told not to, finish.
void check_finish(const Context& context, const Piece& piece) {
  if (piece.finish == Finish::error) throw ApiError(500, "the model failed: " + piece.error, "model_error");
  if (piece.finish != Finish::cancelled) return;
  if (context.cutting) throw ApiError(503, "the server is shutting down", "shutting_down");
  throw ApiError(503, "the answer was cancelled: it was not read fast enough", "cancelled");
}

Json usage(const Ask& ask, const Tally& tally) {
  return {{"prompt_tokens", ask.prompt_tokens},
          {"completion_tokens", tally.completion_tokens},
          {"total_tokens", ask.prompt_tokens + tally.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", tally.cached_tokens}}}};
}

// What every document and every chunk begins with.
Json envelope(const Ask& ask, const AnswerShape& shape, bool chunk) {
  return {{"id", random_id(shape.id_prefix())},
          {"object", shape.object(chunk)},
          {"created", unix_time()},
          {"model", ask.model->name},
          {"system_fingerprint", "fettle-" FETTLE_VERSION},
          {"choices", Json::array()}};
}

asio::awaitable<void> send_whole(Exchange& exchange, const Ask& ask, AnswerShape& shape, Generation& generation) {
  std::vector<Growing> answers(ask.answers);
  Tally tally;
  while (true) {
    const std::vector<AnswerEvent> events = co_await generation.next();
    if (events.empty()) break;
    if (exchange.client_gone) continue;
    for (const AnswerEvent& event : events) {
      count(exchange, event, tally);
      check_finish(exchange.context, event.piece);
      Growing& growing = answers[size_t(event.answer)];
      growing.text += event.piece.text;
      join(growing.log_probs, shape.log_probs(event));
      growing.finish = finish_name(event.piece.finish);
    }
  }
  if (exchange.client_gone) co_return;
  Json document = envelope(ask, shape, false);
  for (size_t i = 0; i < answers.size(); i++) {
    document["choices"].push_back(shape.whole(int(i), answers[i].text, answers[i].log_probs, answers[i].finish));
  }
  document["usage"] = usage(ask, tally);
  co_await exchange.send_json(dump(document));
}

// The chunks of one request: they differ in "choices" and "usage" alone.
class Chunks {
 public:
  Chunks(const Ask& ask, AnswerShape& shape) : ask_(ask), shape_(shape), chunk_(envelope(ask, shape, true)) {
    if (ask.include_usage) chunk_["usage"] = nullptr;
  }
  std::string open() {
    std::string out;
    for (size_t i = 0; i < ask_.answers; i++) {
      if (Json choice = shape_.opening(int(i)); !choice.is_null()) out += event(std::move(choice));
    }
    return out;
  }
  std::string step(const AnswerEvent& e) {
    std::string out;
    const Json log_probs = shape_.log_probs(e);
    if (!e.piece.text.empty() || !log_probs.is_null()) out += event(shape_.delta(e.answer, e.piece.text, log_probs, {}));
    if (e.piece.finish != Finish::none) out += event(shape_.delta(e.answer, {}, nullptr, finish_name(e.piece.finish)));
    return out;
  }
  std::string close(const Tally& tally) {
    std::string out;
    if (ask_.include_usage) {
      chunk_["choices"] = Json::array();
      chunk_["usage"] = usage(ask_, tally);
      out = "data: " + dump(chunk_) + "\n\n";
    }
    return out + "data: [DONE]\n\n";
  }

 private:
  std::string event(Json choice) {
    chunk_["choices"] = Json::array({std::move(choice)});
    return "data: " + dump(chunk_) + "\n\n";
  }
  const Ask& ask_;
  AnswerShape& shape_;
  Json chunk_;
};

// The events from `at` on as text, about as much as one write takes; an ApiError becomes the last one.
std::string event_text(Exchange& exchange, const std::vector<AnswerEvent>& events, size_t& at, Chunks& chunks, Tally& tally, bool& failed) {
  std::string text;
  try {
    for (; at < events.size() && text.size() < kWriteBytes; at++) {
      count(exchange, events[at], tally);
      check_finish(exchange.context, events[at].piece);
      text += chunks.step(events[at]);
    }
  } catch (...) {
    failed = true;
    text += "data: " + error_body(current_api_error()) + "\n\n";
  }
  return text;
}

asio::awaitable<void> send_events(Exchange& exchange, const Ask& ask, AnswerShape& shape, Generation& generation) {
  Chunks chunks(ask, shape);
  Tally tally;
  bool failed = false;
  co_await exchange.begin_events();
  co_await exchange.events(chunks.open());
  while (!failed) {
    const std::vector<AnswerEvent> events = co_await generation.next();
    if (events.empty()) break;
    for (size_t at = 0; at < events.size() && !failed && !exchange.client_gone;) {
      std::string text = event_text(exchange, events, at, chunks, tally, failed);
      co_await exchange.events(std::move(text));
    }
    if (exchange.client_gone) break;
  }
  if (exchange.client_gone) co_return;
  if (!failed) co_await exchange.events(chunks.close(tally));
  co_await exchange.end_events();
}

}  // namespace

asio::awaitable<void> answer(Exchange& exchange, Ask ask, AnswerShape& shape) {
  const Admission admission(*ask.model, int(ask.answers), exchange.context.options.max_queue);
  exchange.prompt_tokens = ask.prompt_tokens;
  const Abandon running{
      Generation::start(exchange.executor(), exchange.context.io, *ask.model->engine, std::move(ask.requests), ask.log_probs)};
  exchange.watch([generation = running.generation] { generation->cancel(); });
  if (ask.stream) {
    co_await send_events(exchange, ask, shape, *running.generation);
  } else {
    co_await send_whole(exchange, ask, shape, *running.generation);
  }
}

}  // namespace fettle
