// For tests only: a server on a tiny model, and a client of raw sockets that sends exactly what it is given.
#pragma once
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "../../tests/tiny_model.h"
#include "serve/serve.h"

namespace fettle {

using Json = nlohmann::ordered_json;

struct TestResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  Json json() const { return Json::parse(body, nullptr, false); }
  std::string code() const {
    const Json j = json();
    return j.is_object() && j.contains("error") && j["error"]["code"].is_string() ? j["error"]["code"].get<std::string>() : "";
  }
};

class TestClient {
 public:
  // receive_bytes: of the socket's buffer; 0: as the system likes it.
  explicit TestClient(int port, int receive_bytes = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_bytes) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(uint16_t(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~TestClient() { close(); }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // Closing with a reset instead of an orderly end.
  void reset() {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }
  void close_sending() { ::shutdown(fd_, SHUT_WR); }
  bool connected() const { return connected_; }

  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(size_t(n));
    }
    return true;
  }
  // Reads more into the buffer; false: end, reset or ten seconds of silence.
  bool more(int timeout_ms = 10000) {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, timeout_ms) <= 0) return false;
    char bytes[1 << 16];
    const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) return false;
    buffer_.append(bytes, size_t(n));
    return true;
  }
  // Everything up to and with `mark`; what came before the end when it does not come.
  std::string until(const std::string& mark) {
    size_t at;
    while ((at = buffer_.find(mark)) == std::string::npos) {
      if (!more()) return std::exchange(buffer_, {});
    }
    return take(at + mark.size());
  }
  // True when the server closes (whatever still comes is dropped).
  bool closed_by_server(int timeout_ms = 10000) {
    while (more(timeout_ms)) {
    }
    pollfd p{fd_, POLLIN, 0};
    char byte;
    return ::poll(&p, 1, 0) > 0 && ::recv(fd_, &byte, 1, 0) <= 0;
  }
  TestResponse response() {
    TestResponse r;
    const std::string head = until("\r\n\r\n");
    if (head.size() < 12 || head.compare(0, 5, "HTTP/") != 0) return r;
    r.status = std::stoi(head.substr(9, 3));
    for (const std::string& line : fettle::split(head, '\n')) {
      const size_t colon = line.find(':');
      if (colon != std::string::npos) r.headers[lower(line.substr(0, colon))] = std::string(trim(line.substr(colon + 1)));
    }
    if (r.headers.count("content-length")) {
      r.body = bytes(size_t(std::stoul(r.headers["content-length"])));
    } else if (r.headers.count("transfer-encoding")) {
      EXPECT_EQ(r.headers["transfer-encoding"], "chunked");
      for (size_t n; (n = std::stoul("0" + until("\r\n"), nullptr, 16)) > 0;) {
        r.body += bytes(n);
        until("\r\n");
      }
      until("\r\n");
    } else if (r.status != 204 && r.status != 100) {
      while (more()) {
      }
      r.body = std::exchange(buffer_, {});
    }
    return r;
  }

 private:
  std::string take(size_t n) {
    std::string text = buffer_.substr(0, n);
    buffer_.erase(0, n);
    return text;
  }
  std::string bytes(size_t n) {
    while (buffer_.size() < n && more()) {
    }
    return take(std::min(n, buffer_.size()));
  }
  int fd_;
  bool connected_ = false;
  std::string buffer_;
};

inline std::string http_request(const std::string& method, const std::string& path, const std::string& body = {},
                                const std::string& headers = {}) {
  return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "Content-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

// Waits for something that another thread brings about; false after ten seconds.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

class ServeTest : public ::testing::Test {
 protected:
  static std::shared_ptr<Model> tiny_model() {
    static const std::shared_ptr<Model> model = [] {
      const fs::path path = fs::temp_directory_path() / ("fettle-serve-test-" + std::to_string(::getpid()) + ".gguf");
      TinyModel tiny;
      tiny.context = 100000;
      tiny.write(path);
      auto opened = Model::open(path);
      fs::remove(path);
      return opened;
    }();
    return model;
  }
  // The same weights under another chat template.
  static std::shared_ptr<Model> with_template(const std::string& source) {
    const fs::path path = fs::temp_directory_path() / ("fettle-serve-template-" + std::to_string(::getpid()) + ".gguf");
    TinyModel().write(path);
    {
      const Gguf file(path);
      GgufWriter writer;
      writer.copy_metadata(file);
      writer.set_string("tokenizer.chat_template", source);
      for (const NamedTensor& t : file.tensors()) {
        writer.add(t.name, t.tensor.format, t.tensor.shape, [&t] { return t.tensor.bytes; });
      }
      writer.write(path);
    }
    auto model = Model::open(path);
    fs::remove(path);
    return model;
  }
  void serve(ServeOptions options = {}, int context = 512, int parallel = 4, const std::shared_ptr<Model>& model = nullptr) {
    EngineOptions engine;
    engine.context = context;
    engine.parallel = parallel;
    engine.threads = 1;
    engine_ = std::make_shared<Engine>(model ? model : tiny_model(), engine);
    options.port = 0;
    server_ = std::make_unique<Server>(std::vector<ServedModel>{{"tiny", engine_}}, options);
    server_->start();
  }
  TestResponse ask(const std::string& method, const std::string& path, const std::string& body = {}, const std::string& headers = {}) {
    TestClient client(server_->port());
    client.send(http_request(method, path, body, headers));
    return client.response();
  }
  TestResponse post(const std::string& path, const Json& body) { return ask("POST", path, body.dump()); }
  TestResponse chat(Json fields) { return post("/v1/chat/completions", filled(std::move(fields))); }
  TestResponse complete(Json fields) {
    if (!fields.contains("model")) fields["model"] = "tiny";
    return post("/v1/completions", fields);
  }
  static Json filled(Json fields) {
    if (!fields.contains("model")) fields["model"] = "tiny";
    if (!fields.contains("messages")) fields["messages"] = Json::array({{{"role", "user"}, {"content", "hi"}}});
    return fields;
  }
  // An answer that goes on for very long, streaming; returns when its first token is there.
  void start_endless(TestClient& client) {
    const Json body = filled({{"stream", true}, {"ignore_eos", true}, {"max_tokens", 90000}});
    client.send(http_request("POST", "/v1/chat/completions", body.dump()));
    client.until("\"content\":\"");
    ASSERT_TRUE(eventually([&] { return engine_->stats().running == 1; }));
  }
  bool idle() const {
    const EngineStats stats = engine_->stats();
    return stats.running == 0 && stats.waiting == 0;
  }
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
};

// The JSON documents of a stream; the last element is the string "[DONE]" when it ended well. Fails on any other framing.
inline std::vector<Json> stream_events(const std::string& body) {
  std::vector<Json> events;
  size_t at = 0;
  while (at < body.size()) {
    const size_t end = body.find("\n\n", at);
    EXPECT_NE(end, std::string::npos);
    EXPECT_EQ(body.compare(at, 6, "data: "), 0) << body.substr(at, 40);
    if (end == std::string::npos) break;
    const std::string data = body.substr(at + 6, end - at - 6);
    EXPECT_EQ(data.find('\n'), std::string::npos);
    events.push_back(data == "[DONE]" ? Json(data) : Json::parse(data));
    at = end + 2;
  }
  return events;
}

}  // namespace fettle
