#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>

#include "engine/model_drafter.h"

namespace fettle {
namespace {

constexpr int kScoredRows = 32;    // prompt tokens per step whose logits are all wanted: bounds the logits' memory
constexpr int kCheapRows = 8;      // rows of a step that cost hardly more than one: weights come from memory all the same
constexpr int kWorthWaiting = 32;  // tokens that a companion must be computing for a request to wait for them

// Sequences that a draft model follows at a time: more together leave it no guesses that are cheap.
int drafted(const EngineOptions& options) { return std::min(options.parallel, kCheapRows / 2); }

// Tokens that the cache holds over all sequences, at least one whole context; a draft model's holds no more.
int64_t cache_tokens(const Model& model, const EngineOptions& options) {
  int64_t token_bytes = model.kv_shape().token_bytes(options.kv_element());
  if (options.draft) token_bytes += options.draft->kv_shape().token_bytes(options.kv_element());
  const uint64_t limit = options.kv_bytes ? options.kv_bytes : machine_memory() / 2;
  const int64_t least = options.context + 2 * KvCache::kPage, wanted = int64_t(options.parallel) * (options.context + KvCache::kPage);
  const int64_t tokens = std::min(std::max(wanted, least), int64_t(limit / uint64_t(token_bytes)));
  if (tokens < least) {
    throw refused("KV cache",
                  "one context of " + std::to_string(options.context) + " tokens takes " +
                      format_bytes(double(least) * double(token_bytes)) + (options.draft ? " with the draft model's" : "") +
                      ", the limit is " + format_bytes(double(limit)),
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
  if (!options_.speculate) return;
  drafters_.push_back(choice_drafter(*model_.tokenizer, counters_.from_choices));
  drafters_.push_back(lookup_drafter(counters_.from_lookup));
  if (!options_.draft) return;
  Model& draft = *options_.draft;
  const int context = std::min(options_.context, draft.config.context), sequences = drafted(options_);
  const ModelDrafter::Limits limits{
      .sequences = sequences,
      .tokens = std::min(cache_tokens(model_, options_), int64_t(sequences) * (context + 2 * KvCache::kPage)),
      .vocabulary = std::min(model_.config.vocabulary, draft.config.vocabulary),
      .context = context,
      .chunk = options_.prefill_chunk,
  };
  drafters_.push_back(std::make_unique<ModelDrafter>(draft, options_.kv_element(), options_.precision, limits, pool_, arena_, times_,
                                                     counters_.from_draft));
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

// Gives up the session's place; keep: what is in the cache may serve others.
void Scheduler::leave(Session& session, bool keep) {
  keep ? slots_.release(session.slot) : slots_.drop(session.slot);
  session.slot = -1;
  for (auto& drafter : drafters_) drafter->forget(session.id);
}

void Scheduler::preempt(size_t index) {
  Session& session = *running_[index];
  leave(session, false);
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

// What may follow the sequences' last tokens, as far as there is room for it.
void Scheduler::guess() {
  std::vector<Session*> drawn;
  std::vector<Drafter::Ask> asks;
  for (auto& session : running_) {
    Session& s = *session;
    s.guesses.clear();
    if (s.pending() != 1 || s.fed < s.prompt_tokens()) continue;
    const int next = int(s.tokens.size());
    int room = std::min(s.request.max_tokens - s.generated(), options_.context - next) - 1;
    // A page more is for what is sure to come, unless many are free.
    if (kv_.free_tokens() <= int64_t(running_.size()) * KvCache::kPage)
      room = std::min(room, (KvCache::kPage - next % KvCache::kPage) % KvCache::kPage);
    drawn.push_back(&s);
    asks.push_back({s.id, s.tokens, s.prompt_tokens(), s.request.choices.get(), room, kCheapRows / int(running_.size()) - 1, {}, nullptr});
  }
  for (auto& drafter : drafters_) drafter->guess(asks);
  for (size_t i = 0; i < drawn.size(); i++) {
    Session& s = *drawn[i];
    if (!asks[i].by || !slots_.grow(s.slot, int(s.tokens.size() + asks[i].guesses.size()))) continue;
    s.guesses = std::move(asks[i].guesses);
    s.guessed_by = asks[i].by;
  }
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
  guess();
  batch_.clear();
  parts_.clear();
  int budget = options_.prefill_chunk;
  const auto is_drawn = [](const Session& s) { return s.fed >= s.prompt_tokens(); };
  for (auto& session : running_) {
    if (!is_drawn(*session)) continue;
    const int count = std::min(session->pending(), std::max(budget, 1));  // more than one after a preemption alone
    add_part(*session, count);
    budget -= count - 1;
  }
  batch_.generated = batch_.rows();
  for (auto& session : running_) {
    if (is_drawn(*session) || budget <= 0) continue;
    const int rest = session->prompt_tokens() - session->fed;
    const int count = std::min({rest, budget, session->request.prompt_log_probs ? kScoredRows : budget});
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
    if (not_finite_.empty()) not_finite_ = model_.why_not_finite().text();
    piece.error = not_finite_;
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
      leave(s, piece.finish != Finish::error);
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
  s.guessed_by->learn(s.id, guessed, right);
}

void Scheduler::step() {
  admit();
  make_room();
  build();
  publish();
  if (batch_.rows() == 0) return;
  arena_.reset();
  Run run{arena_, pool_, &kv_, nullptr, nullptr, options_.precision};
  run.longest = options_.context;
  const double start = now_seconds();
  const Var* logits = nullptr;
  if (batch_.wanted.empty()) {
    model_.hidden(run, batch_);  // a piece of a prompt: only its keys and values matter
  } else {
    logits = model_.logits(run, batch_);
  }
  pool_.run(int(parts_.size()), [&](int i) {
    if (logits) read(parts_[size_t(i)], logits->data, logits->cols);
  });
  const bool drawn = std::all_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.session->fed >= p.session->prompt_tokens(); });
  if (drawn) times_.add(batch_.rows(), now_seconds() - start);
  for (const Part& part : parts_) {
    append(part);
    tell(*part.session);
  }
  std::erase_if(running_, [](const auto& s) { return s->slot < 0; });
}

void Scheduler::end(Session& s, Finish finish, const std::string& error) {
  if (s.slot >= 0) {
    leave(s, finish != Finish::error);
    counters_.running--;
  } else {
    counters_.waiting--;
  }
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
