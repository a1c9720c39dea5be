// Clients that close their sending side behind the request: they are answered, and those that have left all the same are not worked for.
#include "serve/test_client.h"

namespace fettle {
namespace {

const char* const kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

std::string chat_request(Json fields, const char* version = "HTTP/1.1") {
  fields["model"] = "tiny";
  fields["messages"] = Json::array({{{"role", "user"}, {"content", "hi"}}});
  std::string text = http_request("POST", "/v1/chat/completions", fields.dump());
  return text.replace(text.find("HTTP/1.1"), 8, version);
}

// The answer behind interim responses, of which there may be none.
TestResponse final_response(TestClient& client) {
  TestResponse r = client.response();
  while (r.status == 100) r = client.response();
  return r;
}

TEST_F(ServeTest, AHalfClosedClientIsAnswered) {
  serve({}, 2000);
  TestClient client(server_->port());
  client.send(chat_request({{"ignore_eos", true}, {"max_tokens", 500}}));
  client.close_sending();
  const TestResponse r = final_response(client);
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.json()["usage"]["completion_tokens"], 500);
  EXPECT_TRUE(client.closed_by_server());
}

TEST_F(ServeTest, AHalfClosedClientGetsItsWholeStream) {
  serve({}, 2000);
  TestClient client(server_->port());
  client.send(chat_request({{"stream", true}, {"ignore_eos", true}, {"max_tokens", 500}}));
  std::string body = client.until("\"content\":\"");
  client.close_sending();
  body += client.until("data: [DONE]");
  EXPECT_NE(body.find("data: [DONE]"), std::string::npos);
  EXPECT_EQ(body.find(kContinue), std::string::npos) << "inside an answer there is no interim one";
  EXPECT_TRUE(eventually([&] { return idle(); }));
}

TEST_F(ServeTest, AnOldHalfClosedClientIsAnsweredWithoutInterimResponse) {
  serve();
  TestClient client(server_->port());
  client.send(chat_request({{"max_tokens", 5}}, "HTTP/1.0"));
  client.close_sending();
  EXPECT_EQ(client.response().status, 200);
}

TEST_F(ServeTest, RequestsSentAheadOfAHalfCloseAreAllAnswered) {
  serve();
  TestClient client(server_->port());
  client.send(chat_request({{"max_tokens", 5}}) + "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.close_sending();
  EXPECT_EQ(final_response(client).status, 200);
  EXPECT_EQ(client.response().json()["status"], "ok");
}

TEST_F(ServeTest, AHalfClosedClientThatLeavesItsStreamCancelsIt) {
  serve({}, 100000);
  for (bool hard : {false, true}) {
    TestClient client(server_->port());
    start_endless(client);
    client.close_sending();
    EXPECT_EQ(engine_->stats().running, 1u);
    hard ? client.reset() : client.close();
    EXPECT_TRUE(eventually([&] { return idle(); })) << hard;
  }
}

TEST_F(ServeTest, AResetAfterAHalfCloseCancelsAnAnswerThatIsNotStreamed) {
  serve({}, 100000);
  TestClient client(server_->port());
  client.send(chat_request({{"ignore_eos", true}}));
  client.close_sending();
  EXPECT_EQ(client.until("\r\n\r\n"), kContinue);
  ASSERT_TRUE(eventually([&] { return engine_->stats().running == 1; }));
  client.reset();
  EXPECT_TRUE(eventually([&] { return idle(); }));
}

// While it waits for its turn no token tells that nobody reads.
TEST_F(ServeTest, LeavingTheQueueIsNoticedBeforeTheFirstToken) {
  serve({}, 100000, 1);
  TestClient running(server_->port());
  start_endless(running);
  for (bool stream : {false, true}) {
    TestClient waiting(server_->port());
    waiting.send(chat_request({{"stream", stream}, {"max_tokens", 1}}));
    ASSERT_TRUE(eventually([&] { return engine_->stats().waiting == 1; }));
    if (stream) waiting.until("\r\n\r\n");
    waiting.close();
    EXPECT_TRUE(eventually([&] { return engine_->stats().waiting == 0; })) << stream;
  }
}

TEST_F(ServeTest, ARequestCutInItsMiddleIsRefused) {
  serve();
  for (const char* text : {"GET /health HTTP/1.1\r\nHost: localhost\r\n",
                           "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"}) {
    TestClient client(server_->port());
    client.send(text);
    client.close_sending();
    EXPECT_EQ(client.response().status, 400) << text;
  }
}

}  // namespace
}  // namespace fettle
