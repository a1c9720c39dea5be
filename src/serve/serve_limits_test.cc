// What a server must survive: malformed HTTP, missing keys, foreign names, slow and vanishing clients, full queues, and its own end.
#include "serve/gate.h"
#include "serve/route.h"
#include "serve/test_client.h"

namespace fettle {
namespace {

TEST_F(ServeTest, PathsAndMethods) {
  serve();
  EXPECT_EQ(ask("GET", "/").status, 404);
  EXPECT_EQ(ask("GET", "/v1/models/../../etc/passwd").status, 404);
  EXPECT_EQ(ask("GET", "/health?x=1").status, 200);
  const TestResponse r = ask("GET", "/v1/chat/completions");
  EXPECT_EQ(r.status, 405);
  EXPECT_EQ(r.headers.at("allow"), "POST");
  EXPECT_EQ(ask("DELETE", "/v1/models").status, 405);
  EXPECT_EQ(ask("BREW", "/coffee").status, 404);
}

TEST_F(ServeTest, MalformedHttp) {
  serve();
  const std::pair<const char*, int> table[] = {
      {"garbage\r\n\r\n", 400},
      {"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\n\r\n", 400},                                        // no Host
      {"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400},  // two
      {"GET /health HTTP/1.1\r\nHost: localhost\r\n broken: x\r\nbad line\r\n\r\n", 400},
      {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", 400},
      {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400},
      {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
      {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415},
      {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
      {"GET /health HTTP/1.0\r\n\r\n", 200},
  };
  for (const auto& [text, status] : table) {
    TestClient client(server_->port());
    client.send(text);
    EXPECT_EQ(client.response().status, status) << text;
    EXPECT_TRUE(client.closed_by_server()) << text;
  }
}

TEST_F(ServeTest, SizesAreLimited) {
  serve({.max_body_bytes = 10000, .max_header_bytes = 2000});
  EXPECT_EQ(ask("POST", "/v1/completions", std::string(10001, ' ')).status, 413);
  EXPECT_EQ(ask("GET", "/health", {}, "X-Long: " + std::string(3000, 'x') + "\r\n").status, 431);
  // a chunked body that never ends
  TestClient client(server_->port());
  client.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; i++) client.send("400\r\n" + std::string(1024, ' ') + "\r\n");
  EXPECT_EQ(client.response().status, 413);
  EXPECT_EQ(ask("GET", "/health").status, 200);
}

TEST_F(ServeTest, ChunkedBodiesAndContinue) {
  serve();
  TestClient client(server_->port());
  client.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("10\r\n{\"prompt\":\"abc\",\r\n10\r\n\"max_tokens\": 1}\r\n0\r\n\r\n");
  EXPECT_EQ(client.response().status, 200);
}

TEST_F(ServeTest, SlowRequestsAreCutOff) {
  serve({.read_timeout_s = 0.3});
  TestClient silent(server_->port()), dripping(server_->port()), stuck(server_->port());
  stuck.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
  const std::string head = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
  bool cut = false;
  for (int i = 0; i < 1000 && !cut; i++) {
    cut = !dripping.send(i < int(head.size()) ? head.substr(size_t(i), 1) : "X: y\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(cut);
  EXPECT_TRUE(silent.closed_by_server());
  EXPECT_TRUE(stuck.closed_by_server());
}

TEST_F(ServeTest, KeyIsAsked) {
  serve({.api_key = "sk-right"});
  EXPECT_EQ(ask("GET", "/health").status, 200);
  for (const char* path : {"/v1/models", "/v1/models/tiny", "/metrics"}) EXPECT_EQ(ask("GET", path).status, 401) << path;
  const std::string body = filled({{"max_tokens", 1}}).dump();
  for (const char* header :
       {"", "Authorization: Bearer sk-wrong\r\n", "Authorization: Bearer sk-righ\r\n", "Authorization: Bearer sk-rightt\r\n",
        "Authorization: Bearer \r\n", "Authorization: sk-right\r\n", "Authorization: Basic sk-right\r\n", "X-Api-Key: sk-right\r\n"}) {
    const TestResponse r = ask("POST", "/v1/chat/completions", body, header);
    EXPECT_EQ(r.status, 401) << header;
    EXPECT_EQ(r.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(r.body.find("sk-"), std::string::npos);
  }
  EXPECT_EQ(ask("POST", "/v1/chat/completions", body, "Authorization: Bearer sk-right\r\n").status, 200);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", body, "authorization: bearer sk-right\r\n").status, 200);
}

TEST_F(ServeTest, ForeignNamesAreRefusedOnLoopback) {
  serve({.allowed_hosts = {"models.example"}});
  const auto status = [&](const std::string& host) {
    TestClient client(server_->port());
    client.send("GET /health HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
    return client.response().status;
  };
  for (const char* good : {"localhost", "LOCALHOST:8484", "127.0.0.1", "127.0.0.1:1", "127.1.2.3", "[::1]:80", "models.example:8484"}) {
    EXPECT_EQ(status(good), 200) << good;
  }
  for (const char* bad : {"evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "", "localhost@evil"}) {
    EXPECT_EQ(status(bad), 403) << bad;
  }
}

TEST_F(ServeTest, WebPagesNeedPermission) {
  serve({.allowed_origins = {"https://app.example"}});
  const auto origin = [&](const std::string& name) { return ask("GET", "/v1/models", {}, "Origin: " + name + "\r\n"); };
  EXPECT_EQ(origin("https://evil.example").status, 403);
  EXPECT_EQ(origin("null").status, 403);
  const TestResponse good = origin("https://app.example");
  EXPECT_EQ(good.status, 200);
  EXPECT_EQ(good.headers.at("access-control-allow-origin"), "https://app.example");
  EXPECT_EQ(origin("http://localhost").status, 200);  // its own pages
  const std::string preflight = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n";
  const TestResponse asked = ask("OPTIONS", "/v1/chat/completions", {}, "Origin: https://app.example\r\n" + preflight);
  EXPECT_EQ(asked.status, 204);
  EXPECT_EQ(asked.headers.at("access-control-allow-methods"), "POST, OPTIONS");
  EXPECT_EQ(asked.headers.at("access-control-allow-headers"), "authorization,content-type");
  const TestResponse refused = ask("OPTIONS", "/v1/chat/completions", {}, "Origin: https://evil.example\r\n" + preflight);
  EXPECT_EQ(refused.headers.count("access-control-allow-origin"), 0u);
  EXPECT_EQ(refused.headers.count("access-control-allow-methods"), 0u);
}

TEST_F(ServeTest, NoOriginIsAllowedByDefault) {
  serve();
  EXPECT_EQ(ask("GET", "/health", {}, "Origin: https://app.example\r\n").status, 403);
  EXPECT_EQ(ask("GET", "/health").headers.count("access-control-allow-origin"), 0u);
}

TEST_F(ServeTest, RequestsOfOneConnectionAreAnsweredInOrder) {
  serve();
  TestClient client(server_->port());
  std::string all;
  for (int i = 1; i <= 5; i++) {
    const Json body = {{"prompt", "abc"}, {"max_tokens", i}, {"ignore_eos", true}, {"stream", i == 3}};
    all += http_request("POST", "/v1/completions", body.dump()) + http_request("GET", "/health");
  }
  client.send(all);
  for (int i = 1; i <= 5; i++) {
    const TestResponse r = client.response();
    ASSERT_EQ(r.status, 200);
    if (i == 3) {
      EXPECT_EQ(stream_events(r.body).back(), "[DONE]");
    } else {
      EXPECT_EQ(r.json()["usage"]["completion_tokens"], i);
    }
    EXPECT_EQ(client.response().json()["status"], "ok");
  }
}

TEST_F(ServeTest, OldClientsGetAStreamThatEndsWithTheConnection) {
  serve();
  TestClient client(server_->port());
  const std::string body = filled({{"max_tokens", 3}, {"ignore_eos", true}, {"stream", true}}).dump();
  client.send("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  const TestResponse r = client.response();
  EXPECT_EQ(r.headers.count("transfer-encoding"), 0u);
  EXPECT_EQ(stream_events(r.body).back(), "[DONE]");
}

TEST_F(ServeTest, LeavingCancelsAStream) {
  serve({}, 100000);
  const std::vector<std::pair<const char*, std::function<void(TestClient&)>>> ways = {
      {"close", [](TestClient& c) { c.close(); }},
      {"reset", [](TestClient& c) { c.reset(); }},
  };
  for (const auto& [what, leave] : ways) {
    TestClient client(server_->port());
    start_endless(client);
    leave(client);
    EXPECT_TRUE(eventually([&] { return idle(); })) << what;
  }
  EXPECT_EQ(chat({{"max_tokens", 1}}).status, 200);
}

TEST_F(ServeTest, LeavingCancelsAnAnswerThatIsNotStreamed) {
  serve({}, 100000);
  for (bool ahead : {false, true}) {
    TestClient client(server_->port());
    client.send(http_request("POST", "/v1/chat/completions", filled({{"ignore_eos", true}, {"n", 2}}).dump()));
    if (ahead) client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ASSERT_TRUE(eventually([&] { return engine_->stats().running == 2; }));
    client.close();
    EXPECT_TRUE(eventually([&] { return idle(); }));
  }
}

TEST_F(ServeTest, AClientThatDoesNotReadIsCutOffAndHoldsNobodyUp) {
  serve({.write_timeout_s = 0.3}, 100000);
  TestClient client(server_->port(), 4096);
  // many bytes a token, so that the sockets' buffers are soon full
  const Json body = filled({{"stream", true}, {"ignore_eos", true}, {"logprobs", true}, {"top_logprobs", 20}, {"n", 4}});
  client.send(http_request("POST", "/v1/chat/completions", body.dump()));
  ASSERT_TRUE(eventually([&] { return engine_->stats().running == 4; }));
  EXPECT_EQ(ask("GET", "/health").status, 200);
  bool freed = false;
  for (int i = 0; i < 60 && !freed; i++) freed = eventually([&] { return idle(); });
  EXPECT_TRUE(freed);
}

TEST_F(ServeTest, AFullQueueSays429) {
  serve({.max_queue = 1}, 100000, 1);
  TestClient running(server_->port()), waiting(server_->port());
  start_endless(running);
  waiting.send(http_request("POST", "/v1/chat/completions", filled({{"max_tokens", 1}}).dump()));
  ASSERT_TRUE(eventually([&] { return engine_->stats().waiting == 1; }));
  const TestResponse r = chat({{"max_tokens", 1}});
  EXPECT_EQ(r.status, 429);
  EXPECT_EQ(r.headers.at("retry-after"), "1");
  EXPECT_EQ(r.code(), "queue_full");
  running.close();
  EXPECT_EQ(waiting.response().status, 200);
  EXPECT_EQ(chat({{"max_tokens", 1}}).status, 200);
}

TEST_F(ServeTest, IdleConnectionsMakeRoom) {
  serve({.max_connections = 4});
  std::vector<std::unique_ptr<TestClient>> idle_ones;
  for (int i = 0; i < 40; i++) idle_ones.push_back(std::make_unique<TestClient>(server_->port()));
  EXPECT_EQ(ask("GET", "/health").status, 200);
  EXPECT_TRUE(idle_ones.front()->closed_by_server());
}

TEST_F(ServeTest, StoppingLetsAnswersFinishAndRefusesNewOnes) {
  serve({}, 100000);
  TestClient client(server_->port()), idle_one(server_->port());
  const Json body = filled({{"stream", true}, {"ignore_eos", true}, {"max_tokens", 300}});
  client.send(http_request("POST", "/v1/chat/completions", body.dump()));
  client.until("\"content\":\"");
  const int port = server_->port();
  std::thread stopping([&] { server_->stop(); });
  EXPECT_TRUE(idle_one.closed_by_server());
  EXPECT_NE(client.until("data: [DONE]\n\n").find("\"finish_reason\":\"length\""), std::string::npos);
  client.close();
  stopping.join();
  EXPECT_FALSE(TestClient(port).connected());
  EXPECT_TRUE(idle());
}

TEST_F(ServeTest, StoppingCutsWhatTakesTooLong) {
  serve({.drain_s = 0.2}, 100000);
  TestClient stream(server_->port()), whole(server_->port());
  start_endless(stream);
  whole.send(http_request("POST", "/v1/chat/completions", filled({{"ignore_eos", true}}).dump()));
  ASSERT_TRUE(eventually([&] { return engine_->stats().running == 2; }));
  std::thread stopping([&] { server_->stop(); });
  EXPECT_NE(stream.until("\"code\":\"shutting_down\"").find("shutting_down"), std::string::npos);
  EXPECT_EQ(whole.response().status, 503);
  stream.close();
  whole.close();
  stopping.join();
  EXPECT_TRUE(eventually([&] { return idle(); }));
}

TEST_F(ServeTest, APortInUseIsAnError) {
  serve();
  Server other({{"tiny", engine_}}, {.port = server_->port()});
  try {
    other.start();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::failed);
    EXPECT_FALSE(error.hint.empty());
  }
}

TEST(ServeOptionsTest, Checked) { EXPECT_THROW(Server({}, {}), Error); }

TEST(Gate, KeysAreComparedWhole) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "ab"));
  EXPECT_FALSE(equal_in_constant_time("", "a"));
}

TEST(Routes, PercentDecoding) {
  EXPECT_EQ(percent_decoded("a%2Fb%3a3"), "a/b:3");
  EXPECT_EQ(percent_decoded("%"), "%");
  EXPECT_EQ(percent_decoded("%2"), "%2");
  EXPECT_EQ(percent_decoded("%zz"), "%zz");
}

}  // namespace
}  // namespace fettle
