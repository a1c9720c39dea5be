// Downloads against a server that cuts, lies, redirects and forgets.
#include "store/download.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <charconv>
#include <cstdlib>

#include "../tests/tiny_model.h"
#include "store/test_folder.h"
#include "store/test_server.h"

namespace fettle {
namespace {

using Answer = TestServer::Answer;
using Request = TestServer::Request;

// A model's bytes; another seed, another model of the same size.
std::string model_bytes(uint64_t seed = 1) {
  TestFolder folder;
  TinyModel{.layers = 1, .d_model = 64, .seed = seed}.write(folder / "m.gguf");
  return read_text(folder / "m.gguf");
}

// What a good server does with a file: ranges, If-Range, ETag.
Answer serve(const Request& request, const std::string& file, const std::string& etag) {
  Answer answer{.body = file};
  if (!etag.empty()) answer.headers.push_back("ETag: " + etag);
  std::string range = request.header("range"), condition = request.header("if-range");
  if (range.empty() || (!condition.empty() && condition != etag)) return answer;
  size_t first = 0;
  std::from_chars(range.data() + 6, range.data() + range.size(), first);
  if (first >= file.size()) {
    answer.headers.push_back("Content-Range: bytes */" + std::to_string(file.size()));
    answer.status = 416;
    answer.body = "";
    return answer;
  }
  answer.status = 206;
  answer.body = file.substr(first);
  answer.headers.push_back("Content-Range: bytes " + std::to_string(first) + "-" + std::to_string(file.size() - 1) + "/" +
                           std::to_string(file.size()));
  return answer;
}

class Download : public ::testing::Test {
 protected:
  TestFolder folder;
  fs::path target = folder / "model.gguf";
  std::string file = model_bytes(), other = model_bytes(2);
  DownloadOptions options{.place = "url:test", .retry = {.first_delay_s = 0.01}};

  static void SetUpTestSuite() { ::setenv("no_proxy", "127.0.0.1", 1); }
  std::string error(const std::string& url) {
    return error_of([&] { download(url, target, options); });
  }
  void expect_whole(const std::string& bytes) {
    EXPECT_TRUE(read_text(target) == bytes);
    EXPECT_FALSE(fs::exists(folder / "model.gguf.part"));
    EXPECT_FALSE(fs::exists(folder / "model.gguf.part.json"));
  }
  void expect_nothing() {
    EXPECT_FALSE(fs::exists(target));
    EXPECT_FALSE(fs::exists(folder / "model.gguf.part"));
    EXPECT_FALSE(fs::exists(folder / "model.gguf.part.json"));
  }
  // A part of `bytes` bytes as a stopped download leaves it.
  void leave_part(const std::string& url, size_t bytes) {
    DownloadOptions stopped = options;
    stopped.progress = [&](uint64_t done, uint64_t) {
      if (done >= bytes) throw Error(Exit::interrupted, "", "stopped");
    };
    EXPECT_NE(error_of([&] { download(url, target, stopped); }).find("stopped"), std::string::npos);
    EXPECT_FALSE(fs::exists(target));
    EXPECT_GE(fs::file_size(folder / "model.gguf.part"), bytes);
  }
};

TEST_F(Download, Whole) {
  TestServer server([&](const Request& r) { return serve(r, file, "\"a\""); });
  uint64_t last = 0, all = 0;
  options.progress = [&](uint64_t done, uint64_t total) { last = done, all = total; };
  options.sha256 = sha256_hex(file);
  download(server.url("/m.gguf"), target, options);
  expect_whole(file);
  EXPECT_EQ(last, file.size());
  EXPECT_EQ(all, file.size());
  EXPECT_EQ(server.requests().size(), 1u);
  EXPECT_EQ(server.requests()[0].header("accept-encoding"), "identity");
}

TEST_F(Download, GoesOnAfterACut) {
  std::atomic<int> n = 0;
  TestServer server([&](const Request& r) {
    Answer answer = serve(r, file, "\"a\"");
    if (n++ < 3) answer.cut_after = file.size() / 5;
    return answer;
  });
  download(server.url("/m"), target, options);
  expect_whole(file);
  auto requests = server.requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_EQ(requests[1].header("range"), "bytes=" + std::to_string(file.size() / 5) + "-");
  EXPECT_EQ(requests[1].header("if-range"), "\"a\"");
}

TEST_F(Download, StopKeepsThePartAndTheNextCallGoesOn) {
  TestServer server([&](const Request& r) { return serve(r, file, "\"a\""); });
  leave_part(server.url("/m"), 20000);
  download(server.url("/m"), target, options);
  expect_whole(file);
  EXPECT_NE(server.requests().back().header("range"), "");
}

TEST_F(Download, ChangedFileIsFetchedAnew) {
  std::atomic<bool> changed = false;
  TestServer server([&](const Request& r) { return changed ? serve(r, other, "\"b\"") : serve(r, file, "\"a\""); });
  leave_part(server.url("/m"), 20000);
  changed = true;
  download(server.url("/m"), target, options);
  expect_whole(other);
}

TEST_F(Download, ServerThatForgetsIfRangeIsFoundOut) {
  std::atomic<bool> changed = false;
  TestServer server([&](Request r) {
    r.headers.erase("if-range");
    return changed ? serve(r, other, "\"b\"") : serve(r, file, "\"a\"");
  });
  leave_part(server.url("/m"), 20000);
  changed = true;
  download(server.url("/m"), target, options);
  expect_whole(other);
}

TEST_F(Download, PartOfAnotherAddressIsNotContinued) {
  TestServer server([&](const Request& r) { return r.target == "/m" ? serve(r, file, "\"a\"") : serve(r, other, "\"a\""); });
  leave_part(server.url("/m"), 20000);
  download(server.url("/n"), target, options);
  expect_whole(other);
}

TEST_F(Download, PartWithoutProofIsNotContinued) {
  TestServer server([&](const Request& r) { return serve(r, file, "W/\"weak\""); });
  leave_part(server.url("/m"), 20000);
  download(server.url("/m"), target, options);
  expect_whole(file);
  EXPECT_EQ(server.requests().back().header("range"), "");
  // with a digest to check at the end it may be
  fs::remove(target);
  leave_part(server.url("/m"), 20000);
  options.sha256 = sha256_hex(file);
  download(server.url("/m"), target, options);
  expect_whole(file);
  EXPECT_NE(server.requests().back().header("range"), "");
}

TEST_F(Download, ServerWithoutRangesStartsAnew) {
  std::atomic<int> n = 0;
  TestServer server([&](const Request&) { return Answer{.body = file, .headers = {"ETag: \"a\""}, .cut_after = n++ ? SIZE_MAX : 10000}; });
  download(server.url("/m"), target, options);
  expect_whole(file);
  EXPECT_NE(server.requests()[1].header("range"), "");
}

TEST_F(Download, WholePartNeedsNoMoreBytes) {
  TestServer server([&](const Request& r) { return serve(r, file, "\"a\""); });
  leave_part(server.url("/m"), file.size());
  download(server.url("/m"), target, options);
  expect_whole(file);
}

TEST_F(Download, BrokenNotesAboutAPartAreNotTrusted) {
  TestServer server([&](const Request& r) { return serve(r, file, "\"a\""); });
  write_text(folder / "model.gguf.part", std::string(500, 'x'));
  write_text(folder / "model.gguf.part.json", "{\"url\":3");
  download(server.url("/m"), target, options);
  expect_whole(file);
}

TEST_F(Download, WrongDigestIsRemovedAndSaid) {
  TestServer server([&](const Request& r) { return serve(r, file, "\"a\""); });
  write_text(target, "what was here before");
  options.sha256 = std::string(64, '0');
  std::string text = error(server.url("/m"));
  EXPECT_NE(text.find(sha256_hex(file)), std::string::npos) << text;
  EXPECT_NE(text.find("removed"), std::string::npos);
  EXPECT_EQ(read_text(target), "what was here before");
  fs::remove(target);
  expect_nothing();
}

TEST_F(Download, PagesAreNoModels) {
  TestServer server([&](const Request& r) { return serve(r, "<html>please sign in to this network</html>", ""); });
  EXPECT_NE(error(server.url("/m")).find("no whole GGUF"), std::string::npos);
  expect_nothing();
}

TEST_F(Download, ShortFileWithoutLengthIsFoundOut) {
  TestServer server([&](const Request&) { return Answer{.body = file.substr(0, file.size() - 100), .tell_length = false}; });
  EXPECT_NE(error(server.url("/m")).find("no whole GGUF"), std::string::npos);
  expect_nothing();
}

TEST_F(Download, EmptyFile) {
  TestServer server([&](const Request&) { return Answer{}; });
  EXPECT_NE(error(server.url("/m")).find("empty file"), std::string::npos);
  expect_nothing();
}

TEST_F(Download, ServerThatAlwaysCutsIsGivenUp) {
  TestServer server([&](const Request&) { return Answer{.body = file, .cut_after = 1000}; });
  EXPECT_NE(error(server.url("/m")).find("ended before"), std::string::npos);
  EXPECT_EQ(server.requests().size(), 5u);
}

TEST_F(Download, StatusesAreExplained) {
  std::atomic<int> status = 404;
  TestServer server(
      [&](const Request&) { return Answer{.status = status, .body = "no", .headers = {"X-Error-Message: because \x1b[31m"}}; });
  auto says = [&](int code, const std::string& words) {
    status = code;
    std::string text = error(server.url("/m"));
    EXPECT_NE(text.find(words), std::string::npos) << text;
    EXPECT_NE(text.find(std::to_string(code)), std::string::npos) << text;
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
  };
  says(404, "no such model");
  says(401, "HF_TOKEN");
  says(403, "terms");
  says(416, "part of the file");
  says(418, "unexpected");
  status = 206;  // a part that nobody asked for
  EXPECT_NE(error(server.url("/m")).find("changes while"), std::string::npos);
  EXPECT_EQ(server.requests().size(), 5u + 3u);  // nothing of this was tried again, but the last
  says(429, "fewer requests");
  says(503, "in trouble");
  EXPECT_EQ(server.requests().size(), 8u + 10u);
  options.token = "secret";
  says(401, "does not accept the token");
  expect_nothing();
}

TEST_F(Download, TroubleThatPasses) {
  std::atomic<int> n = 0;
  TestServer server([&](const Request& r) { return n++ < 2 ? Answer{.status = 503} : serve(r, file, "\"a\""); });
  download(server.url("/m"), target, options);
  expect_whole(file);
}

TEST_F(Download, NobodyListens) {
  std::string gone;
  {
    TestServer server([&](const Request&) { return Answer{}; });
    gone = server.url("/m");
  }
  EXPECT_NE(error(gone).find("cannot connect"), std::string::npos);
  expect_nothing();
}

TEST_F(Download, TokenStaysWithItsHost) {
  TestServer far([&](const Request& r) { return serve(r, file, "\"a\""); });
  TestServer near([&](const Request& r) {
    if (r.target == "/m") return Answer{.status = 302, .headers = {"Location: /moved"}};
    return Answer{.status = 307, .body = "elsewhere", .headers = {"Location: " + far.url("/bytes")}};
  });
  options.token = "secret";
  download(near.url("/m"), target, options);
  expect_whole(file);
  ASSERT_EQ(near.requests().size(), 2u);
  for (const auto& r : near.requests()) EXPECT_EQ(r.header("authorization"), "Bearer secret");
  ASSERT_EQ(far.requests().size(), 1u);
  const auto asked = far.requests();
  for (const auto& [name, value] : asked[0].headers) EXPECT_EQ(value.find("secret"), std::string::npos) << name;
}

TEST_F(Download, RedirectsThatLeadNowhere) {
  std::string to = "/m";
  TestServer server([&](const Request&) { return Answer{.status = 302, .headers = {"Location: " + to}}; });
  EXPECT_NE(error(server.url("/m")).find("without end"), std::string::npos);
  to = "file:///etc/passwd";
  EXPECT_NE(error(server.url("/m")).find("no http"), std::string::npos);
  expect_nothing();
}

TEST_F(Download, TokensThatWouldForgeHeadersAreRefused) {
  TestServer server([&](const Request& r) { return serve(r, file, "\"a\""); });
  options.token = "a\r\nX-Evil: 1";
  EXPECT_NE(error(server.url("/m")).find("control characters"), std::string::npos);
}

TEST_F(Download, TwoAtOnceAreNotLetIn) {
  TestServer server([&](const Request& r) { return serve(r, file, "\"a\""); });
  int fd = ::open((folder / "model.gguf.part").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(::flock(fd, LOCK_EX | LOCK_NB), 0);
  EXPECT_NE(error(server.url("/m")).find("another fettle"), std::string::npos);
  ::close(fd);
  download(server.url("/m"), target, options);
  expect_whole(file);
}

TEST_F(Download, FullDiskIsSeenBefore) {
  EXPECT_NE(error_of([&] { check_space(target, UINT64_MAX, "x"); }).find("left"), std::string::npos);
  EXPECT_EQ(error_of([&] { check_space(target, 1, "x"); }), "");
}

}  // namespace
}  // namespace fettle
