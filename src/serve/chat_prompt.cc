// Plain conversations go through ChatFormat::prompt, the function that cut the training rows, so serving equals training. What it cannot
// hold (tools, calls, template variables) goes to the template as JSON.
#include "serve/chat_prompt.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace fettle {
namespace {

constexpr size_t kMaxMessages = 4096;
constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant", "tool"};

// A string, or a list of text parts: one line each.
std::string read_content(const Json& content, const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) throw bad_type(where, "a string or a list of parts");
  std::string text;
  for (const Json& part : content) {
    if (!part.is_object()) throw bad_type(where, "a string or a list of parts");
    const Fields fields(part, where);
    const auto type = fields.string("type");
    if (type && *type != "text") throw unsupported(where, "has a part of another type than 'text': this model reads text only");
    const auto piece = fields.string("text");
    if (!piece) throw ApiError(400, "'" + where + "' has a part without text", "missing_required_parameter", where);
    text += (text.empty() ? "" : "\n") + *piece;
  }
  return text;
}

Json read_message(const Json& given, const std::string& where) {
  if (!given.is_object()) throw bad_type(where, "an object with a role and content");
  const Fields fields(given, where);
  const auto role = fields.string("role");
  if (!role) throw ApiError(400, "'" + where + ".role' is missing", "missing_required_parameter", where + ".role");
  if (std::find(kRoles.begin(), kRoles.end(), *role) == kRoles.end()) {
    throw bad_value(where + ".role", "must be system, developer, user, assistant or tool");
  }
  // what newer clients call developer is what models were taught as system
  Json message = {{"role", *role == "developer" ? "system" : *role}};
  const Json* content = fields.find("content");
  const bool calls = fields.find("tool_calls") != nullptr;
  if (!content && !(*role == "assistant" && calls)) {
    throw ApiError(400, "'" + where + ".content' is missing", "missing_required_parameter", where + ".content");
  }
  message["content"] = content ? read_content(*content, where + ".content") : std::string();
  for (const char* name : {"name", "tool_call_id"}) {
    if (const auto text = fields.string(name)) message[name] = *text;
  }
  if (calls) {
    if (!given["tool_calls"].is_array()) throw bad_type(where + ".tool_calls", "a list");
    message["tool_calls"] = given["tool_calls"];
  }
  return message;
}

Json read_tools(const Fields& fields) {
  const Json* tools = fields.find("tools");
  if (fields.find("functions") || fields.find("function_call")) throw unsupported("functions", "are not supported: use 'tools'");
  if (const Json* choice = fields.find("tool_choice")) {
    if (*choice != "auto" && *choice != "none") throw unsupported("tool_choice", "other than 'auto' and 'none' is not supported yet");
    if (*choice == "none") return nullptr;
  }
  if (!tools) return nullptr;
  if (!tools->is_array()) throw bad_type("tools", "a list");
  for (const Json& tool : *tools) {
    if (!tool.is_object()) throw bad_type("tools", "a list of objects");
  }
  return tools->empty() ? Json(nullptr) : *tools;
}

// Only what a training row can hold.
bool plain(const ChatInput& input) {
  if (!input.tools.is_null() || !input.extra.is_null()) return false;
  for (const Json& message : input.messages) {
    if (message.size() != 2) return false;
  }
  return true;
}

std::vector<int> template_prompt(const Model& model, const ChatInput& input) {
  TemplateInput variables;
  variables.messages = &input.messages;
  if (!input.tools.is_null()) variables.tools = &input.tools;
  if (!input.extra.is_null()) variables.extra = &input.extra;
  return model.chat_format().prompt(variables);
}

}  // namespace

ChatInput read_chat_input(const Fields& fields) {
  const Json* messages = fields.find("messages");
  if (!messages) throw ApiError(400, "'messages' is missing", "missing_required_parameter", "messages");
  if (!messages->is_array()) throw bad_type("messages", "a list");
  if (messages->empty()) throw bad_value("messages", "must hold at least one message");
  if (messages->size() > kMaxMessages) throw bad_value("messages", "holds more than " + std::to_string(kMaxMessages) + " messages");
  ChatInput input{Json::array(), read_tools(fields), nullptr};
  for (size_t i = 0; i < messages->size(); i++) {
    input.messages.push_back(read_message((*messages)[i], "messages[" + std::to_string(i) + "]"));
  }
  if (const Json* extra = fields.object("chat_template_kwargs"); extra && !extra->empty()) input.extra = *extra;
  return input;
}

std::vector<int> chat_prompt(const Model& model, const ChatInput& input) {
  if (!model.chat_template) {
    throw ApiError(400, "this model has no chat template; use /v1/completions", "no_chat_template", "messages");
  }
  if (!input.tools.is_null() && model.file->string("tokenizer.chat_template").value_or("").find("tools") == std::string::npos) {
    throw unsupported("tools", "are not supported by this model's chat template");
  }
  if (!plain(input)) return template_prompt(model, input);
  std::vector<Message> messages;
  for (const Json& message : input.messages) messages.push_back({message["role"], message["content"]});
  return model.chat_format().prompt(messages);
}

}  // namespace fettle
