// A Modelfile: FROM, TEMPLATE, SYSTEM, PARAMETER stop. Ollama renders chats by a template in Go's language. Instead of translating Jinja,
// the model's own template is rendered for a few conversations and held against the formats below: the one that gives the very same text is
// the one whose template is written. Sources: Ollama's docs/modelfile.md and docs/template.md. Not handled: tools, thinking.
#include "cli/ollama.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace fettle {
namespace {

using Json = nlohmann::ordered_json;

// What stands around the text of each role. system: nullptr where the format has no such role.
struct ChatShape {
  const char* name;
  const char *system, *after_system, *user, *after_user, *assistant, *after_assistant;
};
constexpr ChatShape kShapes[] = {
    {"chatml", "<|im_start|>system\n", "<|im_end|>\n", "<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n"},
    {"llama3", "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"},
    {"phi3", "<|system|>\n", "<|end|>\n", "<|user|>\n", "<|end|>\n", "<|assistant|>\n", "<|end|>\n"},
    {"phi4", "<|system|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>"},
    {"zephyr", "<|system|>\n", "</s>\n", "<|user|>\n", "</s>\n", "<|assistant|>\n", "</s>\n"},
    {"granite", "<|start_of_role|>system<|end_of_role|>", "<|end_of_text|>\n", "<|start_of_role|>user<|end_of_role|>", "<|end_of_text|>\n",
     "<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>\n"},
    {"gemma", nullptr, "", "<start_of_turn>user\n", "<end_of_turn>\n", "<start_of_turn>model\n", "<end_of_turn>\n"},
    {"mistral", nullptr, "", "[INST] ", " [/INST]", "", "</s>"},
    {"mistral-v3", nullptr, "", "[INST] ", "[/INST]", " ", "</s>"},
    {"mistral-tekken", nullptr, "", "[INST]", "[/INST]", "", "</s>"},
    {"llama2", nullptr, "", "[INST] ", " [/INST]", " ", " </s>"},
};

std::string rendered(const ChatTemplate& chat, const TokenizerSpec& spec, const Json& messages) {
  TemplateInput input;
  input.messages = &messages;
  input.add_generation_prompt = true;
  input.now_seconds = 0;
  const auto name = [&](int id) { return id >= 0 ? spec.tokens[size_t(id)] : std::string(); };
  input.bos_token = name(spec.bos);
  input.eos_token = name(spec.eos);
  std::string text = chat.render(input);
  if (spec.add_bos && !input.bos_token.empty() && text.starts_with(input.bos_token))
    text.erase(0, input.bos_token.size());  // the runner puts it there
  return text;
}

// Whether the format renders as the model's template does; `system`: what that says by itself where nobody does.
bool fits(const ChatShape& s, const ChatTemplate& chat, const TokenizerSpec& spec, std::string& system) {
  const std::string turns =
      std::string(s.user) + "One" + s.after_user + s.assistant + "Two" + s.after_assistant + s.user + "Three" + s.after_user + s.assistant;
  const Json messages = {
      {{"role", "user"}, {"content", "One"}}, {{"role", "assistant"}, {"content", "Two"}}, {{"role", "user"}, {"content", "Three"}}};
  std::string plain = rendered(chat, spec, messages);
  if (!plain.ends_with(turns)) return false;
  plain.resize(plain.size() - turns.size());
  if (!s.system) return plain.empty();
  const std::string before = s.system, after = s.after_system;
  if (!plain.empty()) {
    if (!plain.starts_with(before) || !plain.ends_with(after) || plain.size() < before.size() + after.size()) return false;
    system = plain.substr(before.size(), plain.size() - before.size() - after.size());
  }
  const Json with = {{{"role", "system"}, {"content", "Zero"}}, {{"role", "user"}, {"content", "One"}}};
  return rendered(chat, spec, with) == before + "Zero" + after + s.user + "One" + s.after_user + s.assistant;
}

// In one line, so that no line break is added to what the format itself has.
std::string go_template(const ChatShape& s) {
  const auto role = [](const char* word, const char* name, const std::string& before, const char* after) {
    return std::string("{{ ") + word + " eq .Role \"" + name + "\" }}" + before + "{{ .Content }}" + after;
  };
  std::string text = "{{ range .Messages }}";
  if (s.system) text += role("if", "system", s.system, s.after_system);
  text += role(s.system ? "else if" : "if", "user", s.user, s.after_user);
  text += role("else if", "assistant", s.assistant, s.after_assistant);
  return text + "{{ end }}{{ end }}" + s.assistant;
}

// A value of the Modelfile; three quotes would end it.
std::string quoted(std::string text) {
  for (size_t at; (at = text.find("\"\"\"")) != text.npos;) text.replace(at, 3, "''");
  return "\"\"\"" + text + "\"\"\"";
}

}  // namespace

Modelfile modelfile_of(const Gguf& file, const std::string& from) {
  Modelfile out{"FROM " + from + "\n", ""};
  const TokenizerSpec spec = read_tokenizer_spec(file);
  if (const auto source = read_chat_template(file)) {
    const ChatTemplate chat(*source, file.path().string() + ": chat template");
    for (const ChatShape& shape : kShapes) {
      std::string system;
      try {
        if (!fits(shape, chat, spec, system)) continue;
      } catch (const Error& e) {  // a template may refuse what a format of another model allows
        if (e.code != Exit::refused) throw;
        continue;
      }
      out.format = shape.name;
      out.text += "TEMPLATE " + quoted(go_template(shape)) + "\n";
      if (!system.empty()) out.text += "SYSTEM " + quoted(system) + "\n";
      break;
    }
  }
  const Tokenizer tokenizer{TokenizerSpec(spec)};
  for (int id = 0; id < tokenizer.size(); id++)
    if (tokenizer.is_end(id)) out.text += "PARAMETER stop \"" + tokenizer.name(id) + "\"\n";
  return out;
}

}  // namespace fettle
