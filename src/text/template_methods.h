// Methods of values, by name. Private to the chat template.
#pragma once
#include <span>
#include <string_view>

#include "text/template_run.h"

namespace fettle::jinja {

struct NamedMethod {
  std::string_view name;
  Value (*call)(Run&, const Value& self, const Args&);
};

std::span<const NamedMethod> text_methods();

}  // namespace fettle::jinja
