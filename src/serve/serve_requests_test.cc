// What a request may say: nasty bodies and prompts, fields that nobody knows, prompts that are too long.
#include "serve/json_door.h"
#include "serve/test_client.h"

namespace fettle {
namespace {

struct Nasty {
  const char* what;
  std::string body;
  int status;
  const char* code;
};

std::string nested(int depth) { return std::string(size_t(depth), '[') + std::string(size_t(depth), ']'); }
std::string with(const std::string& field) {
  return R"({"model":"tiny","messages":[{"role":"user","content":"hi"}],"max_tokens":2,)" + field + "}";
}
std::string many_keys(int n) {
  std::string out = "{\"0\":1";
  for (int i = 1; i < n; i++) out += ",\"" + std::to_string(i) + "\":1";
  return out + "}";
}

TEST_F(ServeTest, NastyBodiesAreRefusedAndTheServerGoesOn) {
  serve();
  const Nasty table[] = {
      {"empty", "", 400, "invalid_json"},
      {"not JSON", "hello", 400, "invalid_json"},
      {"cut", R"({"model":"tiny",)", 400, "invalid_json"},
      {"an array", "[]", 400, "invalid_json"},
      {"a number", "1", 400, "invalid_json"},
      {"broken UTF-8", "{\"model\":\"\xff\xfe\"}", 400, "invalid_json"},
      {"NUL", std::string("{\0}", 3), 400, "invalid_json"},
      {"deep", R"({"model":)" + nested(200000) + "}", 400, "invalid_json"},
      {"number too large", with(R"("temperature":1e999)"), 400, "invalid_json"},
      {"million keys", with("\"logit_bias\":" + many_keys(100000)), 400, "invalid_json"},
      {"empty model", R"({"model":"","messages":[{"role":"user","content":"hi"}]})", 404, "model_not_found"},
      {"unknown model", R"({"model":"gpt-5","messages":[{"role":"user","content":"hi"}]})", 404, "model_not_found"},
      {"model is a number", R"({"model":5})", 400, "invalid_type"},
      {"no messages", R"({"model":"tiny"})", 400, "missing_required_parameter"},
      {"no message", R"({"model":"tiny","messages":[]})", 400, "invalid_value"},
      {"messages a string", R"({"model":"tiny","messages":"hi"})", 400, "invalid_type"},
      {"message a string", R"({"model":"tiny","messages":["hi"]})", 400, "invalid_type"},
      {"no role", R"({"model":"tiny","messages":[{"content":"hi"}]})", 400, "missing_required_parameter"},
      {"unknown role", R"({"model":"tiny","messages":[{"role":"root","content":"hi"}]})", 400, "invalid_value"},
      {"role a list", R"({"model":"tiny","messages":[{"role":[],"content":"hi"}]})", 400, "invalid_type"},
      {"no content", R"({"model":"tiny","messages":[{"role":"user"}]})", 400, "missing_required_parameter"},
      {"content null", R"({"model":"tiny","messages":[{"role":"user","content":null}]})", 400, "missing_required_parameter"},
      {"content a number", R"({"model":"tiny","messages":[{"role":"user","content":7}]})", 400, "invalid_type"},
      {"an image", R"({"model":"tiny","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})", 400,
       "unsupported_parameter"},
      {"part without text", R"({"model":"tiny","messages":[{"role":"user","content":[{"type":"text"}]}]})", 400,
       "missing_required_parameter"},
      {"max_tokens negative", with(R"("max_tokens":-1)"), 400, "invalid_value"},
      {"max_tokens zero", with(R"("max_completion_tokens":0)"), 400, "invalid_value"},
      {"max_tokens half", with(R"("max_completion_tokens":1.5)"), 400, "invalid_type"},
      {"max_tokens a string", with(R"("max_completion_tokens":"2")"), 400, "invalid_type"},
      {"n huge", with(R"("n":2147483648)"), 400, "invalid_value"},
      {"n beyond 64 bits", with(R"("n":99999999999999999999999)"), 400, "invalid_type"},
      {"n zero", with(R"("n":0)"), 400, "invalid_value"},
      {"temperature high", with(R"("temperature":2.5)"), 400, "invalid_value"},
      {"temperature a string", with(R"("temperature":"hot")"), 400, "invalid_type"},
      {"top_p negative", with(R"("top_p":-0.1)"), 400, "invalid_value"},
      {"min_p high", with(R"("min_p":1.1)"), 400, "invalid_value"},
      {"top_k", with(R"("top_k":-2)"), 400, "invalid_value"},
      {"penalty", with(R"("presence_penalty":3)"), 400, "invalid_value"},
      {"repetition penalty", with(R"("repetition_penalty":0)"), 400, "invalid_value"},
      {"seed a string", with(R"("seed":"x")"), 400, "invalid_type"},
      {"too many stops", with(R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])"), 400,
       "invalid_value"},
      {"stop a number", with(R"("stop":[1])"), 400, "invalid_type"},
      {"stop long", with("\"stop\":\"" + std::string(5000, 'x') + "\""), 400, "invalid_value"},
      {"logit_bias a list", with(R"("logit_bias":[1])"), 400, "invalid_type"},
      {"logit_bias no id", with(R"("logit_bias":{"x":1})"), 400, "invalid_value"},
      {"logit_bias outside", with(R"("logit_bias":{"259":1})"), 400, "invalid_value"},
      {"logit_bias negative id", with(R"("logit_bias":{"-1":1})"), 400, "invalid_value"},
      {"logit_bias strong", with(R"("logit_bias":{"1":1000})"), 400, "invalid_value"},
      {"logit_bias of a string", with(R"("logit_bias":{"1":"x"})"), 400, "invalid_type"},
      {"logprobs a number", with(R"("logprobs":1)"), 400, "invalid_type"},
      {"top_logprobs alone", with(R"("top_logprobs":2)"), 400, "invalid_value"},
      {"top_logprobs many", with(R"("logprobs":true,"top_logprobs":21)"), 400, "invalid_value"},
      {"stream a string", with(R"("stream":"yes")"), 400, "invalid_type"},
      {"stream_options alone", with(R"("stream_options":{"include_usage":true})"), 400, "invalid_value"},
      {"json_object", with(R"("response_format":{"type":"json_object"})"), 400, "unsupported_parameter"},
      {"json_schema", with(R"("response_format":{"type":"json_schema","json_schema":{}})"), 400, "unsupported_parameter"},
      {"response_format a string", with(R"("response_format":"text")"), 400, "invalid_type"},
      {"tools of a template without", with(R"("tools":[{"type":"function"}])"), 400, "unsupported_parameter"},
      {"tools a string", with(R"("tools":"all")"), 400, "invalid_type"},
      {"tool_choice required", with(R"("tool_choice":"required")"), 400, "unsupported_parameter"},
      {"functions", with(R"("functions":[])"), 400, "unsupported_parameter"},
      {"audio", with(R"("modalities":["text","audio"])"), 400, "unsupported_parameter"},
      {"user a list", with(R"("user":[])"), 400, "invalid_type"},
  };
  for (const Nasty& nasty : table) {
    const TestResponse r = ask("POST", "/v1/chat/completions", nasty.body);
    EXPECT_EQ(r.status, nasty.status) << nasty.what << ": " << r.body;
    EXPECT_EQ(r.code(), nasty.code) << nasty.what << ": " << r.body;
    EXPECT_LT(r.body.size(), 1000u) << nasty.what;
  }
  EXPECT_EQ(chat({{"max_tokens", 1}}).status, 200);
  EXPECT_TRUE(eventually([&] { return idle(); }));
}

TEST_F(ServeTest, NastyPrompts) {
  serve();
  const std::pair<const char*, const char*> table[] = {
      {"{}", "missing_required_parameter"},
      {R"({"prompt":""})", "invalid_value"},
      {R"({"prompt":[]})", "invalid_value"},
      {R"({"prompt":{}})", "invalid_type"},
      {R"({"prompt":[[]]})", "invalid_value"},
      {R"({"prompt":[1,"a"]})", "invalid_type"},
      {R"({"prompt":["a",1]})", "invalid_type"},
      {R"({"prompt":[1.5]})", "invalid_type"},
      {R"({"prompt":[-1]})", "invalid_value"},
      {R"({"prompt":[259]})", "invalid_value"},
      {R"({"prompt":[18446744073709551615]})", "invalid_value"},
      {R"({"prompt":"a","suffix":"b"})", "unsupported_parameter"},
      {R"({"prompt":"a","best_of":4})", "unsupported_parameter"},
      {R"({"prompt":"a","logprobs":true})", "invalid_type"},
      {R"({"prompt":"a","logprobs":100})", "invalid_value"},
      {R"({"prompt":"a","echo":1})", "invalid_type"},
      {R"({"prompt":"a","max_tokens":-1})", "invalid_value"},
  };
  for (const auto& [body, code] : table) {
    const TestResponse r = ask("POST", "/v1/completions", body);
    EXPECT_EQ(r.status, 400) << body;
    EXPECT_EQ(r.code(), code) << body << ": " << r.body;
  }
  std::string many = "[\"a\"";
  for (int i = 0; i < 300; i++) many += ",\"a\"";
  EXPECT_EQ(ask("POST", "/v1/completions", "{\"prompt\":" + many + "]}").code(), "invalid_value");
}

TEST_F(ServeTest, UnknownAndNullFieldsAreIgnored) {
  serve();
  const TestResponse r = ask("POST", "/v1/chat/completions",
                             with(R"("temperature":null,"stop":null,"tools":null,"store":false,"metadata":{"a":"b"},"service_tier":"auto",
                                  "parallel_tool_calls":true,"whatever":[1,2,3],"max_completion_tokens":2.0)"));
  EXPECT_EQ(r.status, 200) << r.body;
}

TEST_F(ServeTest, LongPromptsAreRefusedSayingByHowMuch) {
  serve({}, 64);
  std::vector<int> ids(70, 5);
  const TestResponse r = complete({{"prompt", ids}, {"max_tokens", 1}});
  EXPECT_EQ(r.status, 400);
  EXPECT_EQ(r.code(), "context_length_exceeded");
  EXPECT_NE(r.body.find("7 too many"), std::string::npos) << r.body;
  ids.resize(63);
  EXPECT_EQ(complete({{"prompt", ids}, {"max_tokens", 1}}).status, 200);
  ids.resize(64);
  EXPECT_EQ(complete({{"prompt", ids}, {"max_tokens", 1}}).status, 400);
  // megabytes are refused before they are cut into tokens
  const TestResponse huge = complete({{"prompt", std::string(2000000, 'x')}, {"max_tokens", 1}});
  EXPECT_EQ(huge.code(), "context_length_exceeded");
  EXPECT_NE(huge.body.find("at least"), std::string::npos) << huge.body;
  // an answer that reaches the context's end says so
  ids.resize(60);
  const Json j = complete({{"prompt", ids}, {"max_tokens", 1000000000000}, {"ignore_eos", true}}).json();
  EXPECT_EQ(j["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(j["usage"]["completion_tokens"], 4);
}

TEST(JsonDoor, Limits) {
  EXPECT_NO_THROW(parse_object(R"({"a":"[[[[\"{{{","b":[1,2]})"));
  EXPECT_NO_THROW(parse_object("{\"a\":" + nested(kMaxJsonDepth - 1) + "}"));
  EXPECT_THROW(parse_object("{\"a\":" + nested(kMaxJsonDepth) + "}"), ApiError);
  EXPECT_NO_THROW(parse_object(many_keys(int(kMaxObjectKeys))));
  EXPECT_THROW(parse_object(many_keys(int(kMaxObjectKeys) + 1)), ApiError);
  EXPECT_THROW(parse_object("\""), ApiError);
  EXPECT_THROW(parse_object("{\"a\\"), ApiError);
  EXPECT_THROW(parse_object("]]]]"), ApiError);
}

}  // namespace
}  // namespace fettle
