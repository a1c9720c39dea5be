// GET /metrics in Prometheus' text format.
#include <fmt/format.h>

#include "serve/exchange.h"
#include "serve/route.h"

namespace fettle {
namespace {

struct Row {
  const char *name, *type, *help;
  uint64_t (*value)(const EngineStats&);
};
constexpr Row kRows[] = {
    {"fettle_requests_running", "gauge", "Answers being made.", [](const EngineStats& s) { return uint64_t(s.running); }},
    {"fettle_requests_waiting", "gauge", "Answers waiting for their turn.", [](const EngineStats& s) { return uint64_t(s.waiting); }},
    {"fettle_answers_total", "counter", "Answers asked of the model.", [](const EngineStats& s) { return s.requests; }},
    {"fettle_prompt_tokens_total", "counter", "Prompt tokens computed.", [](const EngineStats& s) { return s.prompt_tokens; }},
    {"fettle_cached_tokens_total", "counter", "Prompt tokens found in the prefix cache.",
     [](const EngineStats& s) { return s.cached_tokens; }},
    {"fettle_generated_tokens_total", "counter", "Tokens generated.", [](const EngineStats& s) { return s.generated_tokens; }},
    {"fettle_guessed_tokens_total", "counter", "Tokens guessed ahead of the model.", [](const EngineStats& s) { return s.guessed_tokens; }},
    {"fettle_right_guesses_total", "counter", "Guesses that the model agreed with.", [](const EngineStats& s) { return s.right_guesses; }},
    {"fettle_draft_guesses_total", "counter", "Tokens guessed by the draft model.", [](const EngineStats& s) { return s.draft_guesses; }},
    {"fettle_right_draft_guesses_total", "counter", "Guesses of the draft model that the model agreed with.",
     [](const EngineStats& s) { return s.right_draft_guesses; }},
};

std::string label(const std::string& name) {
  std::string out;
  for (char c : name) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

boost::asio::awaitable<void> handle(Exchange& exchange) {
  std::string text = exchange.context.metrics.text();
  for (const Row& row : kRows) {
    text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", row.name, row.help, row.type);
    for (const auto& served : exchange.context.models) {
      text += fmt::format("{}{{model=\"{}\"}} {}\n", row.name, label(served->name), row.value(served->engine->stats()));
    }
  }
  co_await exchange.send_text(std::move(text), "text/plain; version=0.0.4; charset=utf-8");
}

}  // namespace

extern const Route metrics_route;
const Route metrics_route = {.method = "GET", .path = "/metrics", .handle = handle};

}  // namespace fettle
