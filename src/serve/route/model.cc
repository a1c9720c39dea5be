// GET /v1/models/{id}: one model, with what a client may want to know of it beside OpenAI's fields.
#include "serve/exchange.h"
#include "serve/json_door.h"
#include "serve/route.h"

namespace fettle {
namespace {

boost::asio::awaitable<void> handle(Exchange& exchange) {
  const Served& served = exchange.context.model(&exchange.rest);
  const Json model = {{"id", served.name},
                      {"object", "model"},
                      {"created", exchange.context.started},
                      {"owned_by", "fettle"},
                      {"context_tokens", served.engine->options().context},
                      {"parameters", served.engine->model().parameters()}};
  co_await exchange.send_json(dump(model));
}

}  // namespace

extern const Route model_route;
const Route model_route = {.method = "GET", .path = "/v1/models/", .rest = true, .handle = handle};

}  // namespace fettle
