// A small HTTP server on the loopback, for tests only: one thread, one request a connection, answers made by a function. It can lie about
// lengths and hang up early, which is what tests of downloads need.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/base.h"

namespace fettle {

class TestServer {
 public:
  struct Request {
    std::string target;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string header(const std::string& name) const {
      auto it = headers.find(name);
      return it == headers.end() ? "" : it->second;
    }
  };
  struct Answer {
    int status = 200;
    std::string body;
    std::vector<std::string> headers;  // "ETag: \"a\""
    size_t cut_after = SIZE_MAX;       // bytes of the body after which the connection is closed
    bool tell_length = true;
  };

  explicit TestServer(std::function<Answer(const Request&)> answer)
      : answer_(std::move(answer)), socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof address;
    CHECK(::bind(socket_, reinterpret_cast<sockaddr*>(&address), n) == 0 && ::listen(socket_, 16) == 0, "a port on the loopback");
    CHECK(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &n) == 0, "the port has a number");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~TestServer() {
    ::shutdown(socket_, SHUT_RDWR);  // wakes accept()
    thread_.join();
    ::close(socket_);
  }
  std::string url(const std::string& path = "") const { return "http://127.0.0.1:" + std::to_string(port_) + path; }
  std::vector<Request> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    for (int fd; (fd = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0; ::close(fd)) {
      std::string head;
      char piece[4096];
      while (head.find("\r\n\r\n") == head.npos) {
        ssize_t n = ::recv(fd, piece, sizeof piece, 0);
        if (n <= 0) break;
        head.append(piece, size_t(n));
      }
      Request request = parse(head);
      {
        std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      send(fd, answer_(request));
    }
  }
  static Request parse(const std::string& head) {
    Request request;
    auto lines = split(head, '\n');
    auto words = split(lines[0], ' ');
    if (words.size() > 1) request.target = words[1];
    for (const auto& line : lines)
      if (size_t colon = line.find(": "); colon != line.npos)
        request.headers[lower(line.substr(0, colon))] = std::string(trim(line.substr(colon + 2)));
    return request;
  }
  static void send(int fd, const Answer& answer) {
    std::string text = "HTTP/1.1 " + std::to_string(answer.status) + " Said\r\nConnection: close\r\n";
    for (const auto& header : answer.headers) text += header + "\r\n";
    if (answer.tell_length) text += "Content-Length: " + std::to_string(answer.body.size()) + "\r\n";
    text += "\r\n" + answer.body.substr(0, answer.cut_after);
    for (size_t at = 0; at < text.size();) {
      ssize_t n = ::send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL);
      if (n <= 0) break;
      at += size_t(n);
    }
    // an orderly end, so that what was sent is not thrown away
    ::shutdown(fd, SHUT_WR);
    char rest[256];
    while (::recv(fd, rest, sizeof rest, 0) > 0) {
    }
  }

  std::function<Answer(const Request&)> answer_;
  int socket_;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::vector<Request> requests_;
  std::thread thread_;
};

}  // namespace fettle
