// The engine's door: checks requests, hands them to the thread that owns the scheduler, and waits for those who ask for whole answers.
#include "engine/engine.h"

#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/scheduler.h"

namespace fettle {

int usual_chunk(const Config& config) { return config.experts > 4 * config.experts_used ? 1024 : 512; }

namespace {

EngineOptions checked(EngineOptions options, const Model& model) {
  if (options.parallel < 1 || options.parallel > 4096) throw usage("--parallel must lie between 1 and 4096");
  if (options.context < 2) throw usage("--context must be at least 2");
  if (options.prefill_chunk < 0) throw usage("the prefill chunk must be at least 1");
  if (options.prefill_chunk == 0) options.prefill_chunk = usual_chunk(model.config);
  if (model.config.context > 0) options.context = std::min(options.context, model.config.context);
  options.prefill_chunk = std::min(options.prefill_chunk, 1 << 16);
  if (options.draft && !options.draft->same_tokens(model)) {
    const auto tokens = [](const Model& m) { return std::to_string(m.tokenizer->size()); };
    throw refused(options.draft->file->path().string(),
                  "has other tokens than " + model.file->path().string() + " (" + tokens(*options.draft) + ", not the same " +
                      tokens(model) + "), so it cannot guess for it",
                  "a draft model is a smaller one of the same family, or a smaller file of the same model");
  }
  return options;
}

void check_sampling(const Sampling& s, int vocabulary) {
  const auto finite = [](float x, const char* name) {
    if (!std::isfinite(x)) throw refused("request", std::string(name) + " is not a finite number");
  };
  finite(s.temperature, "temperature");
  finite(s.top_p, "top_p");
  finite(s.min_p, "min_p");
  finite(s.repeat_penalty, "repeat_penalty");
  finite(s.presence_penalty, "presence_penalty");
  finite(s.frequency_penalty, "frequency_penalty");
  if (s.temperature < 0) throw refused("request", "temperature must be at least 0");
  if (s.top_p <= 0 || s.top_p > 1) throw refused("request", "top_p must lie above 0 and not above 1");
  if (s.min_p < 0 || s.min_p > 1) throw refused("request", "min_p must lie between 0 and 1");
  if (s.top_k < 0) throw refused("request", "top_k must be at least 0");
  if (s.repeat_penalty <= 0) throw refused("request", "repeat_penalty must be above 0");
  for (auto [id, bias] : s.logit_bias) {
    finite(bias, "logit_bias");
    if (id < 0 || id >= vocabulary)
      throw refused("request", "logit_bias names token " + std::to_string(id) + ", the vocabulary has " + std::to_string(vocabulary));
  }
}

void check_request(const Request& r, int vocabulary, int context) {
  if (r.prompt.empty()) throw refused("request", "the prompt is empty");
  for (int id : r.prompt) {
    if (id < 0 || id >= vocabulary)
      throw refused("request", "the prompt holds token " + std::to_string(id) + ", the vocabulary has " + std::to_string(vocabulary));
  }
  const int64_t needed = int64_t(r.prompt.size()) + (r.max_tokens > 0 ? 1 : 0);
  if (needed > context) {
    throw refused("request", "the prompt has " + std::to_string(r.prompt.size()) + " tokens; with room for an answer that is " +
                                 std::to_string(needed - context) + " more than the context of " + std::to_string(context));
  }
  if (r.max_tokens < 0 || (r.max_tokens == 0 && !r.prompt_log_probs)) throw refused("request", "max_tokens must be at least 1");
  if (r.choices && r.choices->allowed({}).empty()) throw refused("request", "the choices allow no token");
  check_sampling(r.sampling, vocabulary);
}

// Gathers one request's pieces into an answer.
struct Gather {
  Answer answer;
  double start = now_seconds();
  void add(const Piece& piece) {
    if (piece.prompt) return;
    if (piece.id >= 0) {
      if (answer.ids.empty()) answer.first_token_seconds = now_seconds() - start;
      answer.ids.push_back(piece.id);
      answer.log_prob += double(piece.log_prob);
    }
    answer.text += piece.text;
    answer.cached_tokens = piece.cached_tokens;
    if (piece.finish == Finish::none) return;
    answer.finish = piece.finish;
    answer.error = piece.error;
    answer.seconds = now_seconds() - start;
  }
};

}  // namespace

const char* finish_name(Finish finish) {
  switch (finish) {
    case Finish::stop:
      return "stop";
    case Finish::length:
      return "length";
    case Finish::cancelled:
      return "cancelled";
    case Finish::error:
      return "error";
    default:
      return "";
  }
}

struct Engine::State {
  State(std::shared_ptr<Model> m, EngineOptions o) : model(std::move(m)), options(checked(o, *model)) {
    if (model->config.causal)
      scheduler = std::make_unique<Scheduler>(*model, options, counters);
    else
      embedder();
  }
  std::shared_ptr<Model> model;
  EngineOptions options;
  EngineCounters counters;
  std::unique_ptr<Scheduler> scheduler;  // the thread's; nullptr, and no thread: an encoder
  std::once_flag embeds;
  std::unique_ptr<Embedder> embedding;
  mutable std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::unique_ptr<Session>> incoming;
  std::vector<uint64_t> cancels;
  uint64_t last_id = 0;
  bool stopping = false;
  std::thread thread;

  void work();
  bool take_orders();
  Embedder& embedder() {
    std::call_once(embeds, [this] {
      embedding = std::make_unique<Embedder>(model, EmbedOptions{.threads = options.threads, .precision = options.precision});
    });
    return *embedding;
  }
};

// Waits until there is something to do and takes it in; false when the engine ends.
bool Engine::State::take_orders() {
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<uint64_t> cancelled;
  bool go_on = true;
  {
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] { return stopping || !incoming.empty() || !cancels.empty() || !scheduler->idle(); });
    sessions.swap(incoming);
    cancelled.swap(cancels);
    go_on = !stopping;
    // Counted here, so that stats() never sees a request in neither place.
    counters.waiting += int(sessions.size());
  }
  for (auto& s : sessions) scheduler->enqueue(std::move(s));
  for (uint64_t id : cancelled) scheduler->cancel(id);
  return go_on;
}

void Engine::State::work() {
  while (take_orders()) {
    try {
      scheduler->step();
    } catch (const Error& error) {
      scheduler->end_all(Finish::error, error.text());
    } catch (const std::exception& error) {
      scheduler->end_all(Finish::error, error.what());
    }
    if (scheduler->idle()) scheduler->publish();
  }
  scheduler->end_all(Finish::cancelled, {});
}

Engine::Engine(std::shared_ptr<Model> model, EngineOptions options) : state_(std::make_unique<State>(std::move(model), options)) {
  if (state_->scheduler) state_->thread = std::thread([s = state_.get()] { s->work(); });
}

Engine::~Engine() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  if (state_->thread.joinable()) state_->thread.join();
}

Model& Engine::model() { return *state_->model; }
const EngineOptions& Engine::options() const { return state_->options; }

uint64_t Engine::submit(Request request, std::function<void(const Piece&)> on_piece) {
  state_->model->require_text();
  check_request(request, state_->model->config.vocabulary, state_->options.context);
  uint64_t id;
  {
    std::lock_guard lock(state_->mutex);
    id = ++state_->last_id;
    state_->incoming.push_back(std::make_unique<Session>(id, std::move(request), std::move(on_piece)));
    state_->counters.requests++;
  }
  state_->wake.notify_all();
  return id;
}

void Engine::cancel(uint64_t id) {
  {
    std::lock_guard lock(state_->mutex);
    state_->cancels.push_back(id);
  }
  state_->wake.notify_all();
}

const Embedder& Engine::embedder() { return state_->embedder(); }

std::vector<std::vector<float>> Engine::embed(std::span<const std::vector<int>> texts) {
  state_->counters.requests++;
  for (const std::vector<int>& ids : texts) state_->counters.prompt_tokens += ids.size();
  return state_->embedder().embed(texts);
}

EngineStats Engine::stats() const {
  std::lock_guard lock(state_->mutex);
  const EngineCounters& c = state_->counters;
  EngineStats stats;
  stats.running = c.running;
  stats.waiting = c.waiting + int(state_->incoming.size());
  stats.requests = c.requests;
  stats.prompt_tokens = c.prompt_tokens;
  stats.cached_tokens = c.cached_tokens;
  stats.generated_tokens = c.generated_tokens;
  stats.draft_guesses = c.from_draft.guessed;
  stats.right_draft_guesses = c.from_draft.right;
  stats.guessed_tokens = c.from_choices.guessed + c.from_lookup.guessed + stats.draft_guesses;
  stats.right_guesses = c.from_choices.right + c.from_lookup.right + stats.right_draft_guesses;
  return stats;
}

Answer Engine::generate(Request request) { return std::move(generate_all({std::move(request)}).front()); }

std::vector<Answer> Engine::generate_all(std::vector<Request> requests, const std::function<void(size_t)>& progress) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable wake;
    std::vector<Gather> gathers;
    size_t done = 0;
  } shared;
  shared.gathers.resize(requests.size());
  std::vector<uint64_t> ids;
  const auto done = [&] {
    std::lock_guard lock(shared.mutex);
    return shared.done;
  };
  size_t told = 0;  // the progress that was reported: the last one, too, however fast it came
  // Waits until `enough` are done; Ctrl-C and errors leave only after the engine let go of every callback.
  const auto wait = [&](size_t enough) {
    std::unique_lock lock(shared.mutex);
    for (;;) {
      const size_t now = shared.done;
      if (progress && now != told) {
        told = now;
        lock.unlock();
        progress(now);
        lock.lock();
        continue;
      }
      if (now >= enough) return true;
      if (interrupted()) return false;
      shared.wake.wait_for(lock, std::chrono::milliseconds(100), [&] { return shared.done != now; });
    }
  };
  const auto abandon = [&] {
    for (uint64_t id : ids) cancel(id);
    std::unique_lock lock(shared.mutex);
    shared.wake.wait(lock, [&] { return shared.done == ids.size(); });
  };
  const size_t ahead = size_t(state_->options.parallel) * 4;  // enough that the scheduler always finds the next one
  try {
    for (size_t i = 0; i < requests.size(); i++) {
      if (i >= ahead && !wait(i + 1 - ahead)) break;
      Gather& gather = shared.gathers[i];
      gather.answer.prompt_tokens = int(requests[i].prompt.size());
      gather.start = now_seconds();
      ids.push_back(submit(std::move(requests[i]), [&shared, &gather](const Piece& piece) {
        gather.add(piece);
        if (piece.finish == Finish::none) return;
        std::lock_guard lock(shared.mutex);
        shared.done++;
        shared.wake.notify_all();
      }));
    }
    if (ids.size() == requests.size()) wait(requests.size());
  } catch (...) {
    abandon();
    throw;
  }
  if (done() < requests.size()) {
    abandon();
    stop_if_interrupted();
  }
  std::vector<Answer> answers;
  for (Gather& gather : shared.gathers) answers.push_back(std::move(gather.answer));
  return answers;
}

}  // namespace fettle
