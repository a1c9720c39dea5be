// The shapes that fine-tuning data comes in: OpenAI chat ("messages"), ShareGPT ("conversations"), Alpaca ("instruction"), and pairs under
// many names ("prompt" and "completion", "question" and "answer", "text" and "label"). Each is recognised by its keys, row by row.
// Not handled: images and audio, tool calls, preference pairs.
#include "text/example_shapes.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/base.h"

namespace fettle {
namespace {

using Json = nlohmann::json;
constexpr size_t kMaxMessages = 1000;  // every turn costs one more rendering of all before it

struct RoleName {
  std::string_view name, role;
};
constexpr RoleName kRoles[] = {{"user", "user"},       {"human", "user"},    {"customer", "user"},     {"assistant", "assistant"},
                               {"gpt", "assistant"},   {"bot", "assistant"}, {"chatbot", "assistant"}, {"chatgpt", "assistant"},
                               {"model", "assistant"}, {"ai", "assistant"},  {"system", "system"},     {"developer", "system"},
                               {"tool", "tool"},       {"function", "tool"}, {"observation", "tool"},  {"ipython", "tool"}};

std::string role_named(const std::string& name, size_t message) {
  std::string wanted = lower(trim(name));
  for (const RoleName& r : kRoles)
    if (r.name == wanted) return std::string(r.role);
  throw RowError{"role", "message " + std::to_string(message) + " has the unknown role \"" + name.substr(0, 40) +
                             "\" (known: system, user, assistant, tool; human, gpt)"};
}

// A string, null, or OpenAI's list of parts [{"type": "text", "text": ...}].
std::string text_of(const Json& value, const std::string& what) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return {};
  if (value.is_number_integer() || value.is_boolean()) return value.dump();
  if (!value.is_array()) throw RowError{"content", what + " is no text but " + value.type_name()};
  std::string text;
  for (const Json& part : value) {
    if (part.is_string()) {
      text += part.get<std::string>();
    } else if (part.is_object() && part.contains("text") && part["text"].is_string()) {
      text += part["text"].get<std::string>();
    } else {
      std::string type = part.is_object() && part.contains("type") && part["type"].is_string() ? part["type"].get<std::string>() : "other";
      throw RowError{"content", what + " holds a part of type \"" + type.substr(0, 40) + "\"; only text is read"};
    }
  }
  return text;
}

bool trained(const Json& message, size_t number, std::vector<RowError>& warnings) {
  for (const char* key : {"weight", "train"}) {
    auto it = message.find(key);
    if (it == message.end() || it->is_null()) continue;
    if (it->is_boolean()) return it->get<bool>();
    if (!it->is_number()) throw RowError{"weight", "message " + std::to_string(number) + ": \"" + key + "\" must be 0 or 1"};
    double weight = it->get<double>();
    if (weight != 0 && weight != 1)
      warnings.push_back({"weight", "message " + std::to_string(number) + ": a weight other than 0 and 1 counts as 1"});
    return weight != 0;
  }
  return true;
}

Message read_message(const Json& value, size_t number, std::vector<RowError>& warnings) {
  std::string what = "message " + std::to_string(number);
  if (!value.is_object()) throw RowError{"content", what + " is no object but " + value.type_name()};
  auto key_of = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (auto it = value.find(name); it != value.end()) return it;
    return value.end();
  };
  auto role = key_of({"role", "from"});
  if (role == value.end() || !role->is_string()) throw RowError{"role", what + " has no \"role\""};
  if (auto calls = value.find("tool_calls"); calls != value.end() && !calls->is_null() && !calls->empty())
    throw RowError{"tool-calls", what + " calls tools; such rows cannot be trained on yet"};
  auto content = key_of({"content", "value"});
  if (content == value.end()) throw RowError{"content", what + " has no \"content\""};
  Message message;
  message.role = role_named(role->get<std::string>(), number);
  message.content = text_of(*content, what);
  message.train = trained(value, number, warnings);
  return message;
}

void read_messages(const Json& list, const char* key, RowReading& reading) {
  if (!list.is_array()) throw RowError{"content", std::string("\"") + key + "\" is no list but " + list.type_name()};
  if (list.size() > kMaxMessages)
    throw RowError{"too-many-messages", std::to_string(list.size()) + " messages in one row; at most " + std::to_string(kMaxMessages)};
  for (const Json& value : list)
    reading.example.messages.push_back(read_message(value, reading.example.messages.size() + 1, reading.warnings));
}

void add(RowReading& reading, const char* role, std::string content) {
  reading.example.messages.push_back({role, std::move(content), true});
}

void add_system(const Json& row, RowReading& reading) {
  auto it = row.find("system");
  if (it == row.end()) return;
  std::string text = text_of(*it, "\"system\"");
  if (!trim(text).empty()) add(reading, "system", std::move(text));
}

// instruction, input and output; "history" holds earlier pairs.
void read_alpaca(const Json& row, const Json& output, RowReading& reading) {
  reading.shape = "alpaca";
  add_system(row, reading);
  if (auto history = row.find("history"); history != row.end() && history->is_array()) {
    if (history->size() > kMaxMessages / 2) throw RowError{"too-many-messages", "\"history\" is too long"};
    for (const Json& pair : *history) {
      if (!pair.is_array() || pair.size() != 2) throw RowError{"content", "\"history\" must hold pairs of question and answer"};
      add(reading, "user", text_of(pair[0], "\"history\""));
      add(reading, "assistant", text_of(pair[1], "\"history\""));
    }
  }
  std::string question = text_of(row["instruction"], "\"instruction\"");
  if (auto input = row.find("input"); input != row.end()) {
    std::string more = text_of(*input, "\"input\"");
    if (!trim(more).empty()) question += (question.empty() ? "" : "\n\n") + more;
  }
  add(reading, "user", std::move(question));
  add(reading, "assistant", text_of(output, "\"output\""));
}

struct Pair {
  const char *question, *answer;
};
constexpr Pair kPairs[] = {{"prompt", "completion"}, {"prompt", "response"}, {"question", "answer"},  {"input", "output"},
                           {"text", "label"},        {"text", "intent"},     {"text", "category"},    {"query", "response"},
                           {"query", "answer"},      {"message", "label"},   {"message", "intent"},   {"message", "answer"},
                           {"input", "label"},       {"prompt", "answer"},   {"question", "response"}};

bool read_pair(const Json& row, RowReading& reading) {
  for (const Pair& pair : kPairs) {
    auto question = row.find(pair.question), answer = row.find(pair.answer);
    if (question == row.end() || answer == row.end()) continue;
    reading.shape = "prompt-completion";
    add_system(row, reading);
    bool chat = question->is_array() && !question->empty() && (*question)[0].is_object() && (*question)[0].contains("role");
    if (chat) {
      read_messages(*question, pair.question, reading);
      if (answer->is_array()) return read_messages(*answer, pair.answer, reading), true;
    } else {
      add(reading, "user", text_of(*question, std::string("\"") + pair.question + "\""));
    }
    // completions were written to follow their prompt directly: their outer blanks belong to no answer
    add(reading, "assistant", std::string(trim(text_of(*answer, std::string("\"") + pair.answer + "\""))));
    return true;
  }
  return false;
}

std::string list_keys(const Json& row) {
  std::string keys;
  size_t shown = 0;
  for (auto it = row.begin(); it != row.end() && shown < 8; ++it, shown++) keys += (shown ? ", " : "") + it.key().substr(0, 40);
  return keys.empty() ? "none" : keys + (row.size() > shown ? ", ..." : "");
}

void check_order(const std::vector<Message>& messages, std::vector<RowError>& warnings) {
  for (size_t i = 0; i < messages.size(); i++) {
    const std::string &role = messages[i].role, number = std::to_string(i + 1);
    const std::string before = i ? messages[i - 1].role : "";
    if (role == "system" && i) throw RowError{"role-order", "message " + number + " is the system's, but only the first may be"};
    if (role == "assistant" && (i == 0 || before == "system"))
      throw RowError{"role-order", "the assistant speaks first (message " + number + "), before any question"};
    if (role == "assistant" && before == "assistant")
      throw RowError{"role-order", "messages " + std::to_string(i) + " and " + number + " are both the assistant's"};
    if (role == "tool" && before != "assistant" && before != "tool")
      throw RowError{"role-order", "message " + number + " is a tool's, but no assistant turn is before it"};
    if (role == "user" && before == "user")
      warnings.push_back(
          {"role-order", "messages " + std::to_string(i) + " and " + number + " are both the user's; some templates refuse that"});
  }
}

void check_contents(const std::vector<Message>& messages) {
  bool any_trained = false;
  for (size_t i = 0; i < messages.size(); i++) {
    const Message& message = messages[i];
    std::string number = std::to_string(i + 1);
    if (message.content.find('\0') != std::string::npos) throw RowError{"nul", "message " + number + " holds a NUL character"};
    bool blank = trim(message.content).empty();
    if (blank && message.role == "user") throw RowError{"empty-question", "message " + number + " (user) is empty"};
    if (blank && message.role == "assistant" && message.train)
      throw RowError{"empty-answer", "message " + number + " (assistant) is empty"};
    any_trained |= message.role == "assistant" && message.train;
  }
  if (!any_trained) throw RowError{"no-trained-turn", "every assistant turn has weight 0: nothing to learn from"};
}

}  // namespace

void finish_conversation(RowReading& reading) {
  auto& messages = reading.example.messages;
  if (messages.empty()) throw RowError{"empty", "row has no messages"};
  auto is_answer = [](const Message& m) { return m.role == "assistant"; };
  auto last = std::find_if(messages.rbegin(), messages.rend(), is_answer);
  if (last == messages.rend()) {
    bool only_system = std::all_of(messages.begin(), messages.end(), [](const Message& m) { return m.role == "system"; });
    if (only_system) throw RowError{"only-system", "row has nothing but a system message"};
    throw RowError{"no-assistant", "row has no assistant turn"};
  }
  if (size_t trailing = size_t(last - messages.rbegin())) {
    reading.warnings.push_back({"trailing-turns", "the " + std::to_string(trailing) + " turn(s) after the last answer are left out"});
    messages.resize(messages.size() - trailing);
  }
  check_order(messages, reading.warnings);
  check_contents(messages);
}

RowReading read_json_row(const Json& row) {
  if (!row.is_object()) throw RowError{"shape", std::string("row is no object but ") + row.type_name()};
  RowReading reading;
  if (auto messages = row.find("messages"); messages != row.end()) {
    reading.shape = "openai";
    read_messages(*messages, "messages", reading);
  } else if (auto turns = row.find("conversations"); turns != row.end()) {
    reading.shape = "sharegpt";
    add_system(row, reading);
    read_messages(*turns, "conversations", reading);
  } else if (auto output = row.find("output"); output != row.end() && row.contains("instruction")) {
    read_alpaca(row, *output, reading);
  } else if (auto response = row.find("response"); response != row.end() && row.contains("instruction")) {
    read_alpaca(row, *response, reading);
  } else if (!read_pair(row, reading)) {
    if (row.contains("prompt") || row.contains("question") || row.contains("instruction"))
      throw RowError{"no-assistant", "row has a question but no answer (its keys: " + list_keys(row) + ")"};
    throw RowError{"shape", "row has no known shape; its keys: " + list_keys(row) +
                                " (wanted: messages, conversations, instruction and output, "
                                "or prompt and completion)"};
  }
  finish_conversation(reading);
  return reading;
}

}  // namespace fettle
