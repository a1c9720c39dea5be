// template: a conversation as the model's chat template renders it, a door for tests and curious people.
#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, messages, tools, extra, template_file;
  bool generate = false;
};

Json render(const Arguments& a, const Common& common) {
  const Gguf file = open_model_file(resolve_model(a.model, common.stage.offline));
  TokenizerSpec spec = read_tokenizer_spec(file);
  auto source = a.template_file.empty() ? read_chat_template(file) : read_text(a.template_file);
  if (!source) throw refused(file.path().string(), "has no chat template", "--template names one");
  Json messages = read_json(a.messages), tools, extra;
  if (messages.is_object() && messages.contains("tools") && a.tools.empty()) tools = messages["tools"];
  if (messages.is_object() && messages.contains("messages")) messages = Json(messages["messages"]);
  if (!messages.is_array()) throw refused(a.messages, "is neither an array of messages nor an object that holds one");
  if (!a.tools.empty()) tools = read_json(a.tools);
  if (!a.extra.empty()) extra = read_json(a.extra);
  TemplateInput input;
  input.messages = &messages;
  if (!tools.is_null()) input.tools = &tools;
  if (!extra.is_null()) input.extra = &extra;
  input.add_generation_prompt = a.generate;
  if (spec.bos >= 0) input.bos_token = spec.tokens.at(size_t(spec.bos));
  if (spec.eos >= 0) input.eos_token = spec.tokens.at(size_t(spec.eos));
  ChatTemplate chat(*source, a.template_file.empty() ? file.path().string() : a.template_file);
  std::string text = chat.render(input);
  if (!common.json) std::fwrite(text.data(), 1, text.size(), stdout);
  return {{"text", text}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("--messages", a->messages, "JSON file: an array of messages, or {\"messages\": […]}; -: standard input").require().called("FILE");
  o.add("--tools", a->tools, "JSON file: an array of tools").called("FILE");
  o.add("--extra", a->extra, "JSON file: further variables of the template").called("FILE");
  o.add("--template", a->template_file, "a Jinja file in place of the model's own").called("FILE");
  o.flag("--generate", a->generate, "end with the opening of the assistant's turn");
  return [a, &common] { return render(*a, common); };
}

}  // namespace

const Command command_template = {"template",
                                  "Files",
                                  "a conversation as the model will read it",
                                  "fettle template smollm2-135m-instruct --messages chat.json --generate\n"
                                  "fettle template smollm2-135m-instruct --messages chat.json --template mine.jinja",
                                  setup,
                                  nullptr,
                                  false};

}  // namespace fettle
