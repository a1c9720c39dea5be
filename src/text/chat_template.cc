// The door of chat templates: JSON becomes values whose texts are marked as coming from outside.
#include "text/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/template_run.h"

namespace fettle {

using nlohmann::ordered_json;

struct ChatTemplate::State {
  jinja::Program program;
};

namespace {

// Templates build tokens of these ("<|" + role + "|>"), so they must not count as typed by somebody.
constexpr std::string_view kRoles[] = {"system", "user",    "assistant",   "tool",         "developer", "function",
                                       "model",  "ipython", "observation", "tool_results", "tool_call", "tool_response"};

jinja::Value outside_text(jinja::Run& run, const std::string& text, bool trusted) {
  jinja::Marked marked;
  if (trusted) {
    marked.append(text);
  } else {
    marked.append_quoted(text);
  }
  return run.text(std::move(marked));
}

jinja::Value value_of(jinja::Run& run, const ordered_json& json, int depth) {
  if (depth > jinja::kMaxValueDepth) run.fail("messages or tools are nested too deeply");
  run.charge(1);
  switch (json.type()) {
    case ordered_json::value_t::object: {
      std::vector<std::pair<jinja::Value, jinja::Value>> items;
      for (const auto& [key, value] : json.items()) {
        const bool role = key == "role" && value.is_string() &&
                          std::find(std::begin(kRoles), std::end(kRoles), value.get_ref<const std::string&>()) != std::end(kRoles);
        items.emplace_back(outside_text(run, key, false),
                           role ? outside_text(run, value.get_ref<const std::string&>(), true) : value_of(run, value, depth + 1));
      }
      return run.dict(std::move(items));
    }
    case ordered_json::value_t::array: {
      std::vector<jinja::Value> items;
      for (const auto& value : json) items.push_back(value_of(run, value, depth + 1));
      return run.list(std::move(items));
    }
    case ordered_json::value_t::string:
      return outside_text(run, json.get_ref<const std::string&>(), false);
    case ordered_json::value_t::boolean:
      return json.get<bool>();
    case ordered_json::value_t::number_integer:
      return json.get<int64_t>();
    case ordered_json::value_t::number_unsigned:
      if (json.get<uint64_t>() <= INT64_MAX) return json.get<int64_t>();
      return json.get<double>();
    case ordered_json::value_t::number_float:
      return json.get<double>();
    default:
      return jinja::None{};
  }
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string place)
    : state_(std::make_unique<State>(State{jinja::parse(source, std::move(place))})) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

const std::string& ChatTemplate::place() const { return state_->program.place; }

Rendered ChatTemplate::render_marked(const TemplateInput& input) const {
  jinja::Run run(state_->program);
  run.now_seconds = input.now_seconds;
  if (input.extra != nullptr) {
    for (const auto& [name, value] : input.extra->items()) run.give(name, value_of(run, value, 0));
  }
  run.give("messages", input.messages != nullptr ? value_of(run, *input.messages, 0) : run.list({}));
  run.give("tools", input.tools != nullptr ? value_of(run, *input.tools, 0) : jinja::Value(jinja::None{}));
  run.give("documents", jinja::None{});
  run.give("add_generation_prompt", input.add_generation_prompt);
  run.give("bos_token", run.text(input.bos_token));
  run.give("eos_token", run.text(input.eos_token));
  jinja::Marked out = run.render();
  return {std::move(out.bytes), std::move(out.quoted)};
}

}  // namespace fettle
