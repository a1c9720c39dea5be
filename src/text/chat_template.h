// Chat templates: the Jinja subset that models ship, rendered as Jinja2 does (trim_blocks and lstrip_blocks on, sandboxed). Limits on
// steps, output bytes and depth make every template terminate. Unknown syntax fails when the template is parsed, not when it is used.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace fettle {

struct TemplateInput {
  const nlohmann::ordered_json* messages = nullptr;  // [{role, content, ...}]
  const nlohmann::ordered_json* tools = nullptr;     // optional
  const nlohmann::ordered_json* extra = nullptr;     // further variables (enable_thinking, ...)
  bool add_generation_prompt = false;
  std::string bos_token, eos_token;
  int64_t now_seconds = -1;  // what strftime_now believes the time to be, in Unix seconds; -1: the clock's
};

// A rendered conversation and which of its bytes came from messages, tools or extra, not from the template: what Tokenizer::encode_chat
// needs so that nobody can write special tokens into a message. The names of roles that models know count as the template's.
struct Rendered {
  std::string text;
  std::vector<TextSpan> quoted;  // sorted, disjoint
};

class ChatTemplate {
 public:
  // Throws Error{refused} naming `place`, line and what is not understood.
  ChatTemplate(std::string_view source, std::string place);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  // Throws Error{refused} for raise_exception(), type errors and exceeded limits. May be called by several threads at once.
  Rendered render_marked(const TemplateInput& input) const;
  std::string render(const TemplateInput& input) const { return render_marked(input).text; }
  const std::string& place() const;  // for errors

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fettle
