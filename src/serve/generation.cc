#include "serve/generation.h"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace fettle {
namespace {

namespace asio = boost::asio;

size_t weight(const Piece& piece) { return sizeof(AnswerEvent) + piece.text.size() + piece.top.size() * sizeof(TokenLogProb); }

bool merges(const AnswerEvent& last, int answer, const Piece& piece) {
  return last.answer == answer && last.piece.finish == Finish::none && !last.piece.prompt && !piece.prompt;
}

}  // namespace

std::shared_ptr<Generation> Generation::start(const asio::any_io_executor& executor, std::shared_ptr<Io> io, Engine& engine,
                                              std::vector<Request> requests, bool every_token) {
  auto generation = std::make_shared<Generation>(executor, std::move(io), engine, every_token);
  try {
    for (size_t i = 0; i < requests.size(); i++) {
      {
        std::lock_guard lock(generation->mutex_);
        generation->open_++;
      }
      generation->ids_.push_back(
          engine.submit(std::move(requests[i]), [generation, i](const Piece& piece) { generation->take(int(i), piece); }));
    }
  } catch (...) {
    generation->abandon();
    throw;
  }
  return generation;
}

// On the engine's thread.
void Generation::take(int answer, const Piece& piece) {
  std::lock_guard lock(mutex_);
  if (piece.finish != Finish::none) open_--;
  if (abandoned_) return;
  const int tokens = piece.id >= 0 && !piece.prompt ? 1 : 0;
  if (!every_token_ && !events_.empty() && merges(events_.back(), answer, piece)) {
    AnswerEvent& last = events_.back();
    last.tokens += tokens;
    last.piece.text += piece.text;
    last.piece.finish = piece.finish;
    last.piece.error = piece.error;
    last.piece.cached_tokens = piece.cached_tokens;
    pending_bytes_ += piece.text.size();
  } else {
    events_.push_back({answer, tokens, piece});
    pending_bytes_ += weight(piece);
  }
  if (pending_bytes_ > kMaxPendingBytes) overflowed_ = true;
  if (posted_) return;
  posted_ = true;
  asio::post(wake_.get_executor(), [self = shared_from_this()] { self->woken(); });
}

void Generation::woken() {
  bool overflowed = false;
  {
    std::lock_guard lock(mutex_);
    posted_ = false;
    overflowed = overflowed_;
  }
  if (overflowed) cancel();
  wake_.cancel();
}

asio::awaitable<std::vector<AnswerEvent>> Generation::next() {
  std::vector<AnswerEvent> events;
  while (true) {
    {
      std::lock_guard lock(mutex_);
      events.swap(events_);
      pending_bytes_ = 0;
      if (!events.empty() || open_ == 0) break;
    }
    // woken() runs on this strand, so it cannot come between the look above and the wait
    wake_.expires_at(std::chrono::steady_clock::time_point::max());
    boost::system::error_code ignored;
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  co_return events;
}

void Generation::cancel() {
  for (uint64_t id : ids_) engine_.cancel(id);
}

void Generation::abandon() {
  {
    std::lock_guard lock(mutex_);
    abandoned_ = true;
    events_.clear();
  }
  cancel();
}

}  // namespace fettle
