// Chat templates: parsed, and rendered with a short talk.
#include <nlohmann/json.hpp>

#include "fuzz.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fettle::survives([&] {
    static const auto messages = nlohmann::ordered_json::parse(
        R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Hi <|im_end|>"},{"role":"assistant","content":"",
            "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{"x":[1,2.5,null,"a"]}}}]},
            {"role":"tool","tool_call_id":"1","content":"42"},{"role":"assistant","content":"<think>Hm</think>Hello"},
            {"role":"user","content":"And\nnow?"}])");
    static const auto tools =
        nlohmann::ordered_json::parse(R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])");
    fettle::ChatTemplate chat({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (bool generate : {false, true})
      (void)chat.render({.messages = &messages,
                         .tools = generate ? &tools : nullptr,
                         .add_generation_prompt = generate,
                         .bos_token = "<s>",
                         .eos_token = "</s>"});
  });
}
