// GET /v1/models: what is served.
#include "serve/exchange.h"
#include "serve/json_door.h"
#include "serve/route.h"

namespace fettle {
namespace {

boost::asio::awaitable<void> handle(Exchange& exchange) {
  Json document = {{"object", "list"}, {"data", Json::array()}};
  for (const auto& served : exchange.context.models) {
    document["data"].push_back({{"id", served->name}, {"object", "model"}, {"created", exchange.context.started}, {"owned_by", "fettle"}});
  }
  co_await exchange.send_json(dump(document));
}

}  // namespace

extern const Route models_route;
const Route models_route = {.method = "GET", .path = "/v1/models", .handle = handle};

}  // namespace fettle
