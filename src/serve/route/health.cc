// GET /health: whether the server takes requests. It never waits for a model, so a long prompt does not make it look dead.
#include "serve/exchange.h"
#include "serve/json_door.h"
#include "serve/route.h"

namespace fettle {
namespace {

boost::asio::awaitable<void> handle(Exchange& exchange) {
  const Json health = {{"status", "ok"}};
  co_await exchange.send_json(dump(health));
}

}  // namespace

extern const Route health_route;
const Route health_route = {.method = "GET", .path = "/health", .open = true, .handle = handle};

}  // namespace fettle
