// The server: two network threads, one acceptor, and the order in which it all ends.
//
// Threads: engines have their own; here two run every connection's strand. Nothing waits in them, but reading a large request's JSON and
// cutting its text into tokens takes one of them for that long. stop() ends connections one after another until the network threads have
// nothing left to wait for, so nothing is torn down under anybody.
#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "serve/connection.h"
#include "serve/serve.h"

namespace fettle {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr int kNetworkThreads = 2;
constexpr int kMaxEvicted = 64;    // connections above max_connections that are just being closed
constexpr double kCutSeconds = 1;  // between "your answer ends now" and closing

void check(const std::vector<ServedModel>& models, const ServeOptions& options) {
  if (models.empty()) throw usage("there is no model to serve");
  std::set<std::string> names;
  for (const ServedModel& model : models) {
    CHECK(model.engine != nullptr);
    if (model.name.empty()) throw usage("a served model needs a name");
    if (!names.insert(model.name).second) throw usage("two served models are called '" + model.name + "'");
  }
  if (options.port < 0 || options.port > 65535) throw usage("--port must lie between 0 and 65535");
  if (options.max_connections < 1) throw usage("the server needs at least one connection");
  if (options.max_queue < 0) throw usage("the queue cannot be shorter than 0");
  if (options.max_header_bytes < 1024) throw usage("request heads need at least 1 KiB");
  if (options.temperature < 0 || options.temperature > 2) throw usage("--temperature must lie between 0 and 2");
}

tcp::endpoint resolve(asio::io_context& io, const ServeOptions& options) {
  error_code error;
  const auto address = asio::ip::make_address(options.host, error);
  if (!error) return {address, uint16_t(options.port)};
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port), error);
  if (error || found.empty()) throw refused("--host " + options.host, "no such address on this machine: " + error.message());
  for (const auto& entry : found) {
    if (entry.endpoint().address().is_v4()) return entry.endpoint();
  }
  return found.begin()->endpoint();
}

}  // namespace

struct Server::State {
  explicit State(ServeOptions options) : acceptor(context.io->context) { context.options = std::move(options); }
  Context context;
  tcp::acceptor acceptor;
  tcp::endpoint endpoint;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable changed;
  std::set<std::shared_ptr<Connection>> connections;
  enum { fresh, running, stopping, stopped } phase = fresh;

  asio::awaitable<void> accept();
  void admit(tcp::socket socket);
  bool make_room();
  void ended(const std::shared_ptr<Connection>& connection);
  void shut_all(Connection::Shut how);
  bool wait_until_empty(double seconds);
};

asio::awaitable<void> Server::State::accept() {
  asio::steady_timer pause(acceptor.get_executor());
  while (!context.draining) {
    tcp::socket socket(asio::make_strand(context.io->context));
    error_code error;
    co_await acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    if (context.draining) break;
    if (!error) {
      admit(std::move(socket));
      continue;
    }
    // too many open files, most likely: some must close first
    pause.expires_after(std::chrono::milliseconds(100));
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
}

// Whether one more fits: the connection that has waited longest for a request makes room; false when all are being answered.
bool Server::State::make_room() {
  std::shared_ptr<Connection> oldest;
  int staying = 0;
  for (const auto& connection : connections) {
    if (connection->leaving()) continue;
    staying++;
    const double since = connection->idle_since();
    if (since >= 0 && (!oldest || since < oldest->idle_since())) oldest = connection;
  }
  if (staying < context.options.max_connections) return true;
  if (!oldest || int(connections.size()) >= context.options.max_connections + kMaxEvicted) return false;
  oldest->shut(Connection::Shut::idle);
  return true;
}

void Server::State::admit(tcp::socket socket) {
  auto connection = std::make_shared<Connection>(std::move(socket), context);
  {
    std::lock_guard lock(mutex);
    if (!make_room()) return;  // closes it
    connections.insert(connection);
  }
  connection->start([this, connection] { ended(connection); });
}

void Server::State::ended(const std::shared_ptr<Connection>& connection) {
  std::lock_guard lock(mutex);
  connections.erase(connection);
  changed.notify_all();
}

void Server::State::shut_all(Connection::Shut how) {
  std::lock_guard lock(mutex);
  for (const auto& connection : connections) connection->shut(how);
}

bool Server::State::wait_until_empty(double seconds) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return connections.empty(); });
}

Server::Server(std::vector<ServedModel> models, ServeOptions options) {
  check(models, options);
  state_ = std::make_unique<State>(std::move(options));
  state_->context.started = unix_time();
  for (ServedModel& model : models) {
    auto served = std::make_unique<Served>();
    served->name = std::move(model.name);
    served->label = std::move(model.label);
    served->engine = std::move(model.engine);
    state_->context.models.push_back(std::move(served));
  }
}

Server::~Server() { stop(); }

void Server::start() {
  State& s = *state_;
  CHECK(s.phase == State::fresh, "a server starts once");
  const tcp::endpoint wanted = resolve(s.context.io->context, s.context.options);
  const std::string place = fmt::format("{}:{}", s.context.options.host, s.context.options.port);
  error_code error;
  s.acceptor.open(wanted.protocol(), error);
  if (!error) s.acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) s.acceptor.bind(wanted, error);
  if (!error) s.acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error == asio::error::address_in_use)
    throw failed(place, "another program listens there", "take another --port, or 0 for any free one");
  if (error) throw failed(place, "cannot listen: " + error.message());
  s.endpoint = s.acceptor.local_endpoint();
  s.context.loopback = s.endpoint.address().is_loopback();
  s.phase = State::running;
  asio::co_spawn(s.context.io->context, s.accept(), asio::detached);
  for (int i = 0; i < kNetworkThreads; i++) {
    s.threads.emplace_back([&s] { s.context.io->context.run(); });
  }
}

int Server::port() const { return state_->endpoint.port(); }

std::string Server::url() const {
  const auto address = state_->endpoint.address();
  const std::string host = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
  return fmt::format("http://{}:{}", host, port());
}

void Server::wait() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  while (s.phase == State::running && !interrupted()) s.changed.wait_for(lock, std::chrono::milliseconds(100));
  lock.unlock();
  stop();
}

void Server::stop() {
  State& s = *state_;
  {
    std::unique_lock lock(s.mutex);
    if (s.phase == State::fresh) s.phase = State::stopped;
    s.changed.wait(lock, [&] { return s.phase != State::stopping; });
    if (s.phase == State::stopped) return;
    s.phase = State::stopping;
  }
  s.context.draining = true;
  asio::post(s.acceptor.get_executor(), [&s] {
    error_code ignored;
    s.acceptor.close(ignored);
  });
  s.shut_all(Connection::Shut::idle);
  if (!s.wait_until_empty(s.context.options.drain_s)) {
    s.context.cutting = true;
    s.shut_all(Connection::Shut::answer);
    if (!s.wait_until_empty(kCutSeconds)) s.shut_all(Connection::Shut::now);
  }
  for (std::thread& thread : s.threads) thread.join();
  std::lock_guard lock(s.mutex);
  s.phase = State::stopped;
  s.changed.notify_all();
}

}  // namespace fettle
