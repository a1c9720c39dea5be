// From a chat request's messages to the ids that the model reads.
#pragma once
#include <vector>

#include "serve/json_door.h"
#include "serve/serve.h"

namespace fettle {

struct ChatInput {
  Json messages;  // checked: a list of objects with a known role; content a string
  Json tools;     // null: none
  Json extra;     // further variables of the template; null: none
};

// Reads messages, tools, tool_choice and chat_template_kwargs. Throws ApiError 400 naming the field.
ChatInput read_chat_input(const Fields& fields);
// Throws ApiError 400 when the model has no template, or none that takes tools; Error{refused} when the template refuses the messages.
std::vector<int> chat_prompt(const Model& model, const ChatInput& input);

}  // namespace fettle
