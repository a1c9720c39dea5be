// Who may ask at all, decided on a request's head: Host against DNS rebinding, Origin against foreign web pages, and the key.
#pragma once
#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/message.hpp>
#include <string>
#include <string_view>

#include "serve/context.h"

namespace fettle {

using RequestHead = boost::beast::http::header<true, boost::beast::http::fields>;

// Throw ApiError 400, 403 or 401.
void check_host(const Context& context, const RequestHead& head);
void check_origin(const Context& context, const RequestHead& head);
void check_key(const Context& context, const RequestHead& head);

// What Access-Control-Allow-Origin may say to this request; empty: nothing.
std::string cors_origin(const Context& context, const RequestHead& head);
// "localhost", 127.x.y.z or [::1], with or without a port.
bool is_loopback_name(std::string_view host);
// In time that depends on the lengths alone.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace fettle
