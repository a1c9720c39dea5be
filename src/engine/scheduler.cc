#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>

namespace fettle {
namespace {

constexpr int kScoredRows = 32;    // prompt tokens per step whose logits are all wanted: bounds the logits' memory
constexpr int kCheapRows = 8;      // rows of a step that cost hardly more than one: weights come from memory all the same
constexpr int kWorthWaiting = 32;  // tokens that a companion must be computing for a request to wait for them

// Tokens that the cache holds over all sequences: at least one whole context.
int64_t cache_tokens(const Model& model, const EngineOptions& options) {
  const auto token_bytes = uint64_t(model.kv_shape().token_bytes(options.kv_element()));
  const uint64_t limit = options.kv_bytes ? options.kv_bytes : machine_memory() / 2;
  const int64_t least = options.context + 2 * KvCache::kPage, wanted = int64_t(options.parallel) * (options.context + KvCache::kPage);
  const int64_t tokens = std::min(std::max(wanted, least), int64_t(limit / token_bytes));
  if (tokens < least) {
    throw refused("KV cache",
                  "one context of " + std::to_string(options.context) + " tokens takes " +
                      format_bytes(double(least) * double(token_bytes)) + ", the limit is " + format_bytes(double(limit)),
                  options.kv_element()->block == 1 ? "use a smaller --context, or --kv q8_0" : "use a smaller --context");
  }
  return tokens;
}

int sequences(const EngineOptions& options) {
  return options.prefix_cache ? options.parallel + std::max(options.parallel, 4) : options.parallel;
}

}  // namespace

Scheduler::Scheduler(Model& model, const EngineOptions& options, EngineCounters& counters)
    : model_(model),
      options_(options),
      counters_(counters),
      pool_(options.threads),
      kv_(model.kv_shape(), options.kv_element(), sequences(options), cache_tokens(model, options)),
      slots_(kv_, options.prefix_cache) {
  model_.prepare(pool_, options_.precision);
}

bool Scheduler::companion_computes(const Session& session) const {
  if (!options_.prefix_cache || session.request.prompt_log_probs) return false;
  int held = -1;
  for (const auto& other : running_) {
    if (other->pending() <= 1) continue;
    const int common = common_prefix(other->tokens, session.tokens);
    if (common <= other->fed + kWorthWaiting) continue;
    if (held < 0) held = slots_.longest(session.tokens);
    if (common > held + kWorthWaiting) return true;
  }
  return false;
}

bool Scheduler::admit_one(std::unique_ptr<Session>& session, bool& starved) {
  if (companion_computes(*session)) return false;
  auto place = slots_.place(session->tokens, !session->request.prompt_log_probs, int(running_.size()));
  if (!place) {
    CHECK(!running_.empty(), "an empty cache has room for any context");
    starved = true;
    return false;
  }
  session->slot = place->slot;
  session->fed = place->reused;
  if (session->cached < 0) {
    session->cached = place->reused;
    counters_.cached_tokens += uint64_t(place->reused);
  }
  running_.push_back(std::move(session));
  return true;
}

void Scheduler::admit() {
  bool starved = false;
  for (auto it = waiting_.begin(); it != waiting_.end() && int(running_.size()) < options_.parallel && !starved;) {
    it = admit_one(*it, starved) ? waiting_.erase(it) : it + 1;
  }
}

void Scheduler::preempt(size_t index) {
  Session& session = *running_[index];
  slots_.drop(session.slot);
  session.slot = -1;
  session.fed = 0;
  waiting_.push_front(std::move(running_[index]));
  running_.erase(running_.begin() + long(index));
}

// A page for every sequence that grows by a token now.
void Scheduler::make_room() {
  for (size_t i = 0; i < running_.size(); i++) {
    while (i < running_.size() && !slots_.grow(running_[i]->slot, int(running_[i]->tokens.size()))) {
      CHECK(running_.size() > 1, "the cache is smaller than one context");
      preempt(running_.size() - 1);
    }
  }
}

// Where a choice leaves one token only, that is certain, and each guess saves a pass whatever else runs.
static std::vector<int> forced(const Choices& choices, std::vector<int> answer, const Tokenizer& tokenizer, int most) {
  std::vector<int> certain;
  while (int(certain.size()) < most) {
    const std::vector<int> allowed = choices.allowed(answer);
    if (allowed.size() != 1 || tokenizer.is_end(allowed[0])) break;
    certain.push_back(allowed[0]);
    answer.push_back(allowed[0]);
  }
  return certain;
}

// What may follow the session's last token, as far as there is room for it.
void Scheduler::guess(Session& s) {
  s.guesses.clear();
  const int next = int(s.tokens.size());
  int most = std::min(s.request.max_tokens - s.generated(), options_.context - next) - 1;
  // A page more is for what is sure to come, unless many are free.
  if (kv_.free_tokens() <= int64_t(running_.size()) * KvCache::kPage)
    most = std::min(most, (KvCache::kPage - next % KvCache::kPage) % KvCache::kPage);
  if (!options_.speculate || most <= 0) return;
  if (s.request.choices) {
    s.guesses = forced(*s.request.choices, {s.answer().begin(), s.answer().end()}, *model_.tokenizer, most);
  } else {
    s.guesses = s.drafter.guess(s.tokens, std::min(most, kCheapRows / int(running_.size()) - 1));
  }
  if (!s.guesses.empty() && !slots_.grow(s.slot, next + int(s.guesses.size()))) s.guesses.clear();
}

void Scheduler::add_part(Session& session, int count) {
  const bool scores = session.request.prompt_log_probs && session.fed < session.prompt_tokens(), last = count == session.pending();
  const int first = int(batch_.wanted.size());
  const auto known = std::span(session.tokens).subspan(size_t(session.fed), size_t(count));
  if (session.guesses.empty()) {
    batch_.add(session.slot, session.fed, known, last, scores);
  } else {
    std::vector<int> all(known.begin(), known.end());
    all.insert(all.end(), session.guesses.begin(), session.guesses.end());
    batch_.add(session.slot, session.fed, all, true, true);
  }
  parts_.push_back({&session, count, first, int(batch_.wanted.size()) - first});
}

void Scheduler::build() {
  batch_.clear();
  parts_.clear();
  for (auto& session : running_) {
    session->guesses.clear();
    if (session->pending() != 1) continue;
    if (session->fed >= session->prompt_tokens()) guess(*session);
    add_part(*session, 1);
  }
  int budget = options_.prefill_chunk;
  for (auto& session : running_) {
    if (session->pending() == 1 || budget <= 0) continue;
    const int count = std::min({session->pending(), budget, session->request.prompt_log_probs ? kScoredRows : budget});
    add_part(*session, count);
    budget -= count;
  }
}

// Runs on the pool's threads, one session each.
void Scheduler::read(const Part& part, const float* logits, int vocabulary) {
  Session& s = *part.session;
  const int guesses = int(s.guesses.size());
  std::vector<int> tokens = guesses > 0 ? s.tokens : std::vector<int>();  // and those that were guessed rightly
  for (int i = 0; i < part.wanted; i++) {
    const float* row = logits + int64_t(part.first + i) * vocabulary;
    const int position = s.fed + part.count + guesses - part.wanted + i;  // of the token whose successor this row predicts
    const std::span<const int> known = guesses > 0 ? tokens : s.tokens;
    Piece piece;
    double log_sum = 0;
    if (position + 1 < int(s.tokens.size())) {
      if (position + 1 < s.scored || position + 1 >= s.prompt_tokens()) continue;  // told before a preemption
      piece.prompt = true;
      piece.id = s.tokens[size_t(position) + 1];
      log_sum = log_sum_exp(row, vocabulary);
      piece.log_prob = float(double(row[piece.id]) - log_sum);
    } else if (s.request.max_tokens > 0) {
      std::vector<int> allowed;
      if (s.request.choices) allowed = s.request.choices->allowed(known.subspan(s.request.prompt.size()));
      const TokenLogProb next = s.sampler.draw(row, vocabulary, known, s.request.prompt.size(), s.request.choices ? &allowed : nullptr);
      piece.id = next.id;
      piece.log_prob = next.log_prob;
      log_sum = s.sampler.log_normalizer();
    }
    if (s.request.top_log_probs > 0 && piece.id >= 0) top_log_probs(row, vocabulary, log_sum, s.request.top_log_probs, piece.top);
    s.found.push_back(std::move(piece));
    if (i < guesses && s.found.back().id != s.guesses[size_t(i)]) break;
    if (i < guesses) tokens.push_back(s.guesses[size_t(i)]);
  }
}

// The new token becomes part of the answer; decides whether it was the last.
void Scheduler::accept(Session& s, Piece& piece) {
  if (s.request.max_tokens == 0) {
    piece.finish = Finish::length;
    return;
  }
  if (piece.id < 0) {
    piece.finish = Finish::error;
    piece.error = "the model computed numbers that are not finite";
    return;
  }
  s.tokens.push_back(piece.id);
  counters_.generated_tokens++;
  const bool ends = model_.tokenizer->is_end(piece.id);
  if (ends && (!s.request.ignore_end || s.request.choices)) {
    piece.finish = Finish::stop;
  } else {
    piece.text = s.text.push(model_.tokenizer->piece(piece.id));
    if (s.text.stopped() || (s.request.choices && s.request.choices->allowed(s.answer()).empty())) {
      piece.finish = Finish::stop;
    } else if (s.generated() >= s.request.max_tokens || int(s.tokens.size()) >= options_.context) {
      piece.finish = Finish::length;
    }
  }
  if (piece.finish != Finish::none) piece.text += s.text.finish();
}

void Scheduler::tell(Session& s) {
  for (Piece& piece : s.found) {
    piece.cached_tokens = std::max(s.cached, 0);
    if (piece.prompt) {
      s.scored++;
    } else {
      accept(s, piece);
    }
    if (piece.finish != Finish::none) {
      // What broke is not kept for others, and who hears the end no longer finds it in stats().
      piece.finish == Finish::error ? slots_.drop(s.slot) : slots_.release(s.slot);
      s.slot = -1;
      counters_.running--;
    }
    s.on_piece(piece);
    if (piece.finish != Finish::none) break;
  }
  s.found.clear();
}

// What a step computed is in the cache: its tokens, and the guesses that were right.
void Scheduler::append(const Part& part) {
  Session& s = *part.session;
  slots_.append(s.slot, std::span(s.tokens).subspan(size_t(s.fed), size_t(part.count)));
  if (s.fed < s.prompt_tokens()) counters_.prompt_tokens += uint64_t(std::min(part.count, s.prompt_tokens() - s.fed));
  s.fed += part.count;
  if (s.guesses.empty()) return;
  const int guessed = int(s.guesses.size()), right = int(s.found.size()) - 1;
  slots_.append(s.slot, std::span(s.guesses).first(size_t(right)));
  s.fed += right;
  counters_.guessed_tokens += uint64_t(guessed);
  counters_.right_guesses += uint64_t(right);
  s.drafter.learn(guessed, right);
}

void Scheduler::step() {
  admit();
  make_room();
  build();
  publish();
  if (batch_.rows() == 0) return;
  arena_.reset();
  Run run{arena_, pool_, &kv_, nullptr, nullptr, options_.precision};
  const Var* logits = nullptr;
  if (batch_.wanted.empty()) {
    model_.network->hidden(run, batch_);  // a piece of a prompt: only its keys and values matter
  } else {
    logits = model_.logits(run, batch_);
  }
  pool_.run(int(parts_.size()), [&](int i) {
    if (logits) read(parts_[size_t(i)], logits->data, logits->cols);
  });
  for (const Part& part : parts_) {
    append(part);
    tell(*part.session);
  }
  std::erase_if(running_, [](const auto& s) { return s->slot < 0; });
}

void Scheduler::end(Session& s, Finish finish, const std::string& error) {
  if (s.slot >= 0) {
    finish == Finish::error ? slots_.drop(s.slot) : slots_.release(s.slot);
    counters_.running--;
  } else {
    counters_.waiting--;
  }
  s.slot = -1;
  Piece piece;
  piece.text = s.text.finish();
  piece.finish = finish;
  piece.error = error;
  piece.cached_tokens = std::max(s.cached, 0);
  s.on_piece(piece);
}

bool Scheduler::cancel(uint64_t id) {
  const auto is_it = [&](const auto& s) { return s->id == id; };
  if (auto it = std::find_if(running_.begin(), running_.end(), is_it); it != running_.end()) {
    end(**it, Finish::cancelled, {});
    running_.erase(it);
    return true;
  }
  if (auto it = std::find_if(waiting_.begin(), waiting_.end(), is_it); it != waiting_.end()) {
    end(**it, Finish::cancelled, {});
    waiting_.erase(it);
    return true;
  }
  return false;
}

void Scheduler::end_all(Finish finish, const std::string& error) {
  for (auto& s : running_) end(*s, finish, error);
  for (auto& s : waiting_) end(*s, finish, error);
  running_.clear();
  waiting_.clear();
  publish();
}

void Scheduler::publish() {
  counters_.running = int(running_.size());
  counters_.waiting = int(waiting_.size());
}

}  // namespace fettle
