// Chat templates: the Jinja subset that models ship, rendered as Jinja2 does (trim_blocks and lstrip_blocks on, sandboxed). Limits on
// steps, output bytes and depth make every template terminate. Unknown syntax fails when the template is parsed, not when it is used.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace fettle {

struct TemplateInput {
  const nlohmann::ordered_json* messages = nullptr;  // [{role, content, ...}]
  const nlohmann::ordered_json* tools = nullptr;     // optional
  const nlohmann::ordered_json* extra = nullptr;     // further variables (enable_thinking, ...)
  bool add_generation_prompt = false;
  std::string bos_token, eos_token;
};

class ChatTemplate {
 public:
  // Throws Error{refused} naming `place`, line and what is not understood.
  ChatTemplate(std::string_view source, std::string place);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  // Throws Error{refused} for raise_exception(), type errors and exceeded limits.
  std::string render(const TemplateInput& input) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fettle
