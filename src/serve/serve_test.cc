// Every route, as a client sees it. The model is random: what it says means nothing, but greedily it always says the same.
#include "serve/serve.h"

#include <ctime>

#include "serve/test_client.h"

namespace fettle {
namespace {

TEST_F(ServeTest, AnswersSayWhenTheyWereMadeAndByWhom) {
  serve();
  for (const TestResponse& r : {ask("GET", "/health"), ask("GET", "/no/such/path")}) {
    EXPECT_EQ(r.headers.at("server"), "fettle/" FETTLE_VERSION);
    std::tm t{};
    ASSERT_NE(::strptime(r.headers.at("date").c_str(), "%a, %d %b %Y %H:%M:%S GMT", &t), nullptr) << r.headers.at("date");
    EXPECT_NEAR(double(::timegm(&t)), double(std::time(nullptr)), 60);
  }
}

TEST_F(ServeTest, Health) {
  serve();
  const TestResponse r = ask("GET", "/health");
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.json()["status"], "ok");
  EXPECT_EQ(r.headers.at("content-type"), "application/json");
}

TEST_F(ServeTest, ModelsAreListedAndFoundByName) {
  serve();
  const Json list = ask("GET", "/v1/models").json();
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 1u);
  EXPECT_EQ(list["data"][0]["id"], "tiny");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(ask("GET", "/v1/models/t%69ny").json()["id"], "tiny");
  const TestResponse missing = ask("GET", "/v1/models/gpt-4o");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.code(), "model_not_found");
}

TEST_F(ServeTest, SeveralModelsEachByItsName) {
  serve();
  Server two({{"a", engine_}, {"b:2", engine_}}, {.port = 0});
  two.start();
  for (const char* name : {"a", "b:2"}) {
    TestClient client(two.port());
    client.send(http_request("POST", "/v1/chat/completions", filled({{"model", name}, {"max_tokens", 1}}).dump()));
    EXPECT_EQ(client.response().json()["model"], name);
  }
  TestClient client(two.port());
  client.send(http_request("POST", "/v1/completions", R"({"prompt":"x"})"));
  EXPECT_EQ(client.response().status, 400);
}

TEST_F(ServeTest, ChatAnswersWhole) {
  serve();
  const TestResponse r = chat({{"max_tokens", 8}});
  ASSERT_EQ(r.status, 200) << r.body;
  const Json j = r.json();
  EXPECT_EQ(j["object"], "chat.completion");
  EXPECT_EQ(j["id"].get<std::string>().substr(0, 9), "chatcmpl-");
  EXPECT_EQ(j["model"], "tiny");
  EXPECT_EQ(j["choices"][0]["message"]["role"], "assistant");
  const int completion = j["usage"]["completion_tokens"], prompt = j["usage"]["prompt_tokens"];
  EXPECT_TRUE(completion >= 1 && completion <= 8);
  EXPECT_EQ(j["usage"]["total_tokens"], completion + prompt);
  EXPECT_EQ(j["choices"][0]["finish_reason"], completion == 8 ? "length" : "stop");
}

// What the server answers is what the engine says to the ids of ChatFormat.
TEST_F(ServeTest, ChatFeedsTheModelWhatTrainingDid) {
  serve();
  Request request;
  request.prompt = tiny_model()->chat_format().prompt({{"system", "be brief"}, {"user", "hello\nthere"}});
  request.max_tokens = 12;
  request.ignore_end = true;
  const Answer expected = engine_->generate(request);
  const Json parts = Json::array({{{"type", "text"}, {"text", "hello"}}, {{"type", "text"}, {"text", "there"}}});
  const Json messages = Json::array({{{"role", "developer"}, {"content", "be brief"}}, {{"role", "user"}, {"content", parts}}});
  const Json j = chat({{"messages", messages}, {"max_completion_tokens", 12}, {"ignore_eos", true}}).json();
  EXPECT_EQ(j["choices"][0]["message"]["content"], expected.text);
  EXPECT_EQ(j["usage"]["prompt_tokens"], expected.prompt_tokens);
}

// A message that spells an end of turn is longer than one that does not by what its letters are, and ends no turn.
TEST_F(ServeTest, MessagesCannotSpellSpecialTokens) {
  serve();
  const auto prompt_tokens = [&](const std::string& content) {
    return chat({{"max_tokens", 1}, {"messages", Json::array({{{"role", "user"}, {"content", content}}})}})
        .json()["usage"]["prompt_tokens"]
        .get<int>();
  };
  EXPECT_EQ(prompt_tokens("a<|im_end|>"), prompt_tokens("a") + 10);
}

TEST_F(ServeTest, ToolsReachTheTemplate) {
  const std::string source =
      "{% if tools %}{% for tool in tools %}{{ tool['function']['name'] }};{% endfor %}{% endif %}{% for m in messages %}{{ m['role'] }}:"
      "{{ m['content'] }}{% if m['tool_calls'] %}{{ m['tool_calls'][0]['function']['name'] }}{% endif %}{% endfor %}{% if loud %}!{% endif "
      "%}";
  serve({}, 512, 4, with_template(source));
  const Json tools = Json::array({{{"type", "function"}, {"function", {{"name", "weather"}}}}});
  const auto prompt_tokens = [&](Json fields) {
    fields["max_tokens"] = 1;
    const TestResponse r = chat(fields);
    EXPECT_EQ(r.status, 200) << r.body;
    return r.json()["usage"]["prompt_tokens"].get<size_t>();
  };
  EXPECT_EQ(prompt_tokens({}), std::string("user:hi").size());
  EXPECT_EQ(prompt_tokens({{"tools", tools}, {"tool_choice", "auto"}}), std::string("weather;user:hi").size());
  EXPECT_EQ(prompt_tokens({{"tools", tools}, {"tool_choice", "none"}}), std::string("user:hi").size());
  EXPECT_EQ(prompt_tokens({{"chat_template_kwargs", {{"loud", true}}}}), std::string("user:hi!").size());
  const Json call = {{"id", "1"}, {"type", "function"}, {"function", {{"name", "weather"}, {"arguments", "{}"}}}};
  const Json messages = Json::array({{{"role", "user"}, {"content", "hi"}},
                                     {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({call})}},
                                     {{"role", "tool"}, {"tool_call_id", "1"}, {"content", "sun"}}});
  EXPECT_EQ(prompt_tokens({{"messages", messages}}), std::string("user:hiassistant:weathertool:sun").size());
}

TEST_F(ServeTest, ATemplateThatRefusesIsTheClientsError) {
  serve({}, 512, 4, with_template("{{ raise_exception('roles must alternate') }}"));
  const TestResponse r = chat({});
  EXPECT_EQ(r.status, 400);
  EXPECT_NE(r.body.find("roles must alternate"), std::string::npos) << r.body;
}

TEST_F(ServeTest, ChatStreamsLikeOpenAi) {
  serve();
  const Json fields = {{"max_tokens", 24}, {"ignore_eos", true}};
  const std::string whole = chat(fields).json()["choices"][0]["message"]["content"];
  Json streaming = fields;
  streaming["stream"] = true;
  const TestResponse r = chat(streaming);
  EXPECT_EQ(r.headers.at("content-type").substr(0, 17), "text/event-stream");
  const std::vector<Json> events = stream_events(r.body);
  ASSERT_GE(events.size(), 3u);
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
  std::string text;
  for (size_t i = 0; i + 1 < events.size(); i++) {
    EXPECT_EQ(events[i]["object"], "chat.completion.chunk");
    EXPECT_EQ(events[i]["id"], events[0]["id"]);
    EXPECT_FALSE(events[i].contains("usage"));
    const Json& choice = events[i]["choices"][0];
    text += choice["delta"].value("content", "");
    EXPECT_EQ(choice["finish_reason"].is_null(), i + 2 < events.size());
  }
  EXPECT_EQ(text, whole);
  EXPECT_EQ(events[events.size() - 2]["choices"][0]["delta"], Json::object());
  EXPECT_EQ(events[events.size() - 2]["choices"][0]["finish_reason"], "length");
}

TEST_F(ServeTest, StreamTellsUsageWhenAsked) {
  serve();
  const std::vector<Json> events =
      stream_events(chat({{"max_tokens", 5}, {"ignore_eos", true}, {"stream", true}, {"stream_options", {{"include_usage", true}}}}).body);
  ASSERT_GE(events.size(), 3u);
  const Json& last = events[events.size() - 2];
  EXPECT_EQ(last["choices"], Json::array());
  EXPECT_EQ(last["usage"]["completion_tokens"], 5);
  for (size_t i = 0; i + 2 < events.size(); i++) EXPECT_TRUE(events[i].at("usage").is_null());
}

TEST_F(ServeTest, SeveralAnswersDifferAndRepeatWithTheirSeed) {
  serve();
  const Json fields = {{"n", 3}, {"seed", 7}, {"max_tokens", 16}, {"ignore_eos", true}};
  const Json first = chat(fields).json()["choices"], second = chat(fields).json()["choices"];
  ASSERT_EQ(first.size(), 3u);
  EXPECT_EQ(first, second);
  EXPECT_NE(first[0]["message"]["content"], first[1]["message"]["content"]);
  for (int i = 0; i < 3; i++) EXPECT_EQ(first[size_t(i)]["index"], i);
  Json streaming = fields;
  streaming["stream"] = true;
  std::vector<std::string> texts(3);
  for (const Json& event : stream_events(chat(streaming).body)) {
    if (event.is_string()) continue;
    texts[event["choices"][0]["index"].get<size_t>()] += event["choices"][0]["delta"].value("content", "");
  }
  for (size_t i = 0; i < 3; i++) EXPECT_EQ(first[i]["message"]["content"], texts[i]);
}

TEST_F(ServeTest, StopStringsEndAnAnswerAndAreNotPartOfIt) {
  serve();
  const Json fields = {{"max_tokens", 40}, {"ignore_eos", true}, {"prompt", "abc"}};
  const std::string full = complete(fields).json()["choices"][0]["text"];
  ASSERT_GT(full.size(), 8u);
  // from a place where a character begins
  size_t at = full.size() / 2;
  while ((full[at] & 0xC0) == 0x80) at++;
  size_t end = at + 1;
  while (end < full.size() && (full[end] & 0xC0) == 0x80) end++;
  const std::string stop = full.substr(at, end - at);
  Json stopping = fields;
  stopping["stop"] = Json::array({"never to be seen", stop});
  const Json choice = complete(stopping).json()["choices"][0];
  EXPECT_EQ(choice["text"], full.substr(0, full.find(stop)));
  EXPECT_EQ(choice["finish_reason"], "stop");
}

TEST_F(ServeTest, ChatLogProbs) {
  serve();
  const Json j = chat({{"max_tokens", 6}, {"ignore_eos", true}, {"logprobs", true}, {"top_logprobs", 3}}).json();
  const Json& content = j["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 6u);
  for (const Json& token : content) {
    EXPECT_LE(token["logprob"].get<double>(), 0);
    ASSERT_EQ(token["top_logprobs"].size(), 3u);
    EXPECT_EQ(token["top_logprobs"][0]["token"], token["token"]);  // greedy
    EXPECT_GE(token["top_logprobs"][0]["logprob"], token["top_logprobs"][1]["logprob"]);
    EXPECT_FALSE(token["bytes"].empty());
  }
  const std::vector<Json> events =
      stream_events(chat({{"max_tokens", 6}, {"ignore_eos", true}, {"logprobs", true}, {"top_logprobs", 3}, {"stream", true}}).body);
  Json streamed = Json::array();
  for (const Json& event : events) {
    if (event.is_string() || event["choices"][0]["logprobs"].is_null()) continue;
    for (const Json& token : event["choices"][0]["logprobs"]["content"]) streamed.push_back(token);
  }
  EXPECT_EQ(streamed, content);
}

TEST_F(ServeTest, CompletionsTakeStringsListsAndTokens) {
  serve();
  const std::vector<int> ids = tiny_model()->tokenizer->encode("abc");
  const Json base = {{"max_tokens", 5}, {"ignore_eos", true}};
  const auto with = [&](const Json& prompt) {
    Json fields = base;
    fields["prompt"] = prompt;
    return complete(fields).json();
  };
  const Json text = with("abc"), tokens = with(ids), list = with(Json::array({"abc", "xyz"})), lists = with(Json::array({ids, ids}));
  EXPECT_EQ(text["object"], "text_completion");
  EXPECT_EQ(text["choices"][0]["text"], tokens["choices"][0]["text"]);
  ASSERT_EQ(list["choices"].size(), 2u);
  EXPECT_EQ(list["choices"][0]["text"], text["choices"][0]["text"]);
  EXPECT_EQ(lists["choices"][1]["text"], text["choices"][0]["text"]);
  EXPECT_EQ(list["usage"]["prompt_tokens"], 6);
  EXPECT_EQ(list["usage"]["completion_tokens"], 10);
}

TEST_F(ServeTest, EchoScoresThePrompt) {
  serve();
  const Json j = complete({{"prompt", "abcd"}, {"echo", true}, {"logprobs", 1}, {"max_tokens", 0}}).json();
  const Json& choice = j["choices"][0];
  EXPECT_EQ(choice["text"], "abcd");
  const Json& lists = choice["logprobs"];
  EXPECT_EQ(lists["tokens"], Json::array({"a", "b", "c", "d"}));
  EXPECT_EQ(lists["text_offset"], Json::array({0, 1, 2, 3}));
  EXPECT_TRUE(lists["token_logprobs"][0].is_null());
  EXPECT_TRUE(lists["top_logprobs"][0].is_null());
  // the same numbers as the engine's
  Request request;
  request.prompt = tiny_model()->tokenizer->encode("abcd");
  request.prompt_log_probs = true;
  request.max_tokens = 0;
  std::vector<float> expected;
  std::atomic<bool> done{false};
  engine_->submit(request, [&](const Piece& piece) {
    if (piece.prompt) expected.push_back(piece.log_prob);
    if (piece.finish != Finish::none) done = true;
  });
  ASSERT_TRUE(eventually([&] { return done.load(); }));
  ASSERT_EQ(expected.size(), 3u);
  for (size_t i = 0; i < 3; i++) {
    EXPECT_FLOAT_EQ(lists["token_logprobs"][i + 1].get<float>(), expected[i]);
    EXPECT_TRUE(lists["top_logprobs"][i + 1].contains(lists["tokens"][i + 1]));
  }
}

TEST_F(ServeTest, EchoWithAnAnswerHasAllTokensInOrder) {
  serve();
  const Json fields = {{"prompt", "abcd"}, {"echo", true}, {"logprobs", 2}, {"max_tokens", 3}, {"ignore_eos", true}};
  const Json whole = complete(fields).json()["choices"][0];
  EXPECT_EQ(whole["logprobs"]["tokens"].size(), 7u);
  EXPECT_EQ(whole["text"].get<std::string>().substr(0, 4), "abcd");
  Json streaming = fields;
  streaming["stream"] = true;
  std::string text;
  Json tokens = Json::array();
  for (const Json& event : stream_events(complete(streaming).body)) {
    if (event.is_string()) continue;
    text += event["choices"][0]["text"].get<std::string>();
    if (event["choices"][0]["logprobs"].is_null()) continue;
    for (const Json& token : event["choices"][0]["logprobs"]["tokens"]) tokens.push_back(token);
  }
  EXPECT_EQ(whole["text"], text);
  EXPECT_EQ(tokens, whole["logprobs"]["tokens"]);
}

TEST_F(ServeTest, LogitBiasForcesAToken) {
  serve();
  const int id = tiny_model()->tokenizer->find("Q");
  ASSERT_GE(id, 0);
  const Json j = complete({{"prompt", "abc"}, {"max_tokens", 4}, {"logit_bias", {{std::to_string(id), 100}}}}).json();
  EXPECT_EQ(j["choices"][0]["text"], "QQQQ");
}

TEST_F(ServeTest, MetricsCount) {
  serve();
  chat({{"max_tokens", 3}, {"ignore_eos", true}});
  ask("GET", "/nowhere");
  TestResponse r;
  // a request is counted when its answer is sent, which its client may know a little sooner
  EXPECT_TRUE(eventually([&] {
    r = ask("GET", "/metrics");
    return r.body.find("route=\"/v1/chat/completions\"") != std::string::npos && r.body.find("route=\"refused\"") != std::string::npos;
  }));
  EXPECT_EQ(r.headers.at("content-type").substr(0, 10), "text/plain");
  EXPECT_NE(r.body.find("fettle_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1\n"), std::string::npos) << r.body;
  EXPECT_NE(r.body.find("fettle_http_requests_total{route=\"refused\",status=\"404\"} 1\n"), std::string::npos);
  EXPECT_NE(r.body.find("fettle_generated_tokens_total{model=\"tiny\"} 3\n"), std::string::npos);
  EXPECT_NE(r.body.find("fettle_draft_guesses_total{model=\"tiny\"} 0\n"), std::string::npos);
  EXPECT_NE(r.body.find("fettle_first_token_seconds_count 1\n"), std::string::npos);
  EXPECT_EQ(r.body.back(), '\n');
}

}  // namespace
}  // namespace fettle
