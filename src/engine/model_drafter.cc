#include "engine/model_drafter.h"

#include <algorithm>
#include <cmath>

namespace fettle {
namespace {

constexpr float kSure = 0.3f;          // probability that a token must have for the draft to offer it; 0.2 to 0.4 are much alike
constexpr GuessRates kFirst{7, 2, 1};  // expected before anything was seen
constexpr double kOneWindow = 32;      // passes that count, of a request
constexpr double kAllWindow = 256;     // of all
constexpr double kExpected = 8;        // as many passes counts what is expected of a new request
constexpr int kSeen = 3;               // passes without guesses that are measured first
constexpr int kLook = 2;               // guesses of a look
constexpr double kSpare = 0.02;        // share of the time that looks may take
constexpr int kPiece = 32;             // tokens of a prompt from which reading them is measured

}  // namespace

ModelDrafter::ModelDrafter(Model& model, const Format* element, Precision precision, const Limits& limits, Pool& pool, Arena& arena,
                           const PassTimes& target, GuessCounters& counters)
    : Drafter(counters),
      model_(model),
      precision_(precision),
      limits_(limits),
      pool_(pool),
      arena_(arena),
      target_(target),
      kv_(model.kv_shape(), element, 2 * limits.sequences, limits.tokens),
      slots_(kv_, true),
      rates_(kFirst) {
  model_.prepare(pool_, precision_);
}

void ModelDrafter::forget(uint64_t request) {
  const auto it = requests_.find(request);
  if (it == requests_.end()) return;
  if (it->second.slot >= 0) slots_.release(it->second.slot);
  requests_.erase(it);
}

int ModelDrafter::unread(const Ask& ask, const Followed& f) const {
  return int(ask.tokens.size()) - (f.slot >= 0 ? f.fed : slots_.longest(ask.tokens));
}

// How many guesses are worth their passes.
int ModelDrafter::plan(const Ask& ask, Followed& f, int drawn) {
  const int most = std::min({ask.room, ask.cheap, limits_.context - int(ask.tokens.size())});
  if (most <= 0 || target_.seen(drawn) < kSeen) return 0;
  const double plain = target_.of(drawn), reading = unread(ask, f) * token_seconds_;
  if (const int best = best_guesses(f.rates, drawn, most, target_, times_); best > 0) {
    // Nobody knows how long an answer gets. To read its prompt when it has taken as long as that costs at most doubles that time.
    const int generated = int(ask.tokens.size()) - ask.prompt_tokens;
    return reading <= generated * plain ? best : 0;
  }
  spare_ += kSpare * plain / drawn;
  const double cost = reading + kLook * times_.of(1) + target_.of(drawn + kLook) - plain;
  if (spare_ < cost) return 0;
  spare_ -= cost;
  return std::min(most, kLook);
}

bool ModelDrafter::make_room(const Ask& ask, Followed& f, int most) {
  if (f.slot < 0) {
    const auto in_vocabulary = [&](int id) { return id < model_.config.vocabulary; };  // the target's may have unused ids behind it
    if (!std::all_of(ask.tokens.begin(), ask.tokens.end(), in_vocabulary)) return false;
    const auto place = slots_.place(ask.tokens, true, 0);
    if (!place) return false;
    f.slot = place->slot;
    f.fed = place->reused;
  }
  return slots_.grow(f.slot, int(ask.tokens.size()) + most);
}

void ModelDrafter::fill(std::span<Ask* const> open, int drawn) {
  work_.clear();
  for (Ask* ask : open) {
    if (ask->choices) continue;
    const auto [it, fresh] = requests_.try_emplace(ask->request);
    Followed& followed = it->second;
    if (fresh) followed.rates = rates_.scaled(kExpected);
    followed.guesses.clear();
    followed.computed = 0;
    followed.unsure = false;
    const int most = plan(*ask, followed, drawn);
    if (most > 0 && make_room(*ask, followed, most)) work_.push_back({ask, &followed, most});
  }
  read();
  while (!work_.empty()) go_on();
}

// What the sequences have come to since; one that is not through yet guesses nothing at this step.
void ModelDrafter::read() {
  batch_.clear();
  int budget = limits_.chunk;
  for (Work& w : work_) {
    Followed& f = *w.followed;
    const int unread = int(w.ask->tokens.size()) - f.fed, count = std::min(unread, budget);
    w.goes_on = count == unread;
    if (count == 0) continue;
    const auto tokens = w.ask->tokens.subspan(size_t(f.fed), size_t(count));
    batch_.add(f.slot, f.fed, tokens, w.goes_on);
    slots_.append(f.slot, tokens);
    f.fed += count;
    budget -= count;
  }
  std::erase_if(work_, [](const Work& w) { return !w.goes_on; });
  pass();
}

// One guess more of each.
void ModelDrafter::go_on() {
  batch_.clear();
  for (Work& w : work_) {
    Followed& f = *w.followed;
    batch_.add(f.slot, f.fed + f.computed, std::span(&f.guesses.back(), 1));
    f.computed++;
  }
  pass();
}

void ModelDrafter::pass() {
  if (batch_.rows() == 0) return;
  if (batch_.rows() < kPiece) batch_.generated = batch_.rows();  // the product for few rows: a guess may depend on how it was made
  arena_.reset();
  Run run{arena_, pool_, &kv_, nullptr, nullptr, precision_};
  run.longest = limits_.context;
  const double start = now_seconds();
  if (batch_.wanted.empty()) {
    model_.hidden(run, batch_);
  } else {
    const Var* logits = model_.logits(run, batch_);
    pool_.run(int(work_.size()), [&](int i) { say(work_[size_t(i)], logits->data + int64_t(i) * logits->cols); });
  }
  const double seconds = now_seconds() - start;
  times_.add(batch_.rows(), seconds);
  if (batch_.rows() >= kPiece) token_seconds_ = seconds / batch_.rows();
  for (const Work& w : work_) {
    w.ask->guesses = w.followed->guesses;
    if (w.ask->guesses.empty()) learn_rates(*w.followed, {.unsure = 1});
  }
  std::erase_if(work_, [](const Work& w) { return !w.goes_on; });
}

// Runs on the pool's threads, one sequence each.
void ModelDrafter::say(Work& w, const float* logits) {
  Followed& f = *w.followed;
  const int id = argmax(logits, limits_.vocabulary);
  const double probability = std::exp(double(logits[id]) - log_sum_exp(logits, limits_.vocabulary));
  f.unsure = !(probability >= double(kSure)) || model_.tokenizer->is_end(id);  // behind the end there is nothing to guess
  if (!f.unsure) f.guesses.push_back(id);
  w.goes_on = !f.unsure && int(f.guesses.size()) < w.most;
}

void ModelDrafter::adapt(uint64_t request, int guessed, int right) {
  Followed& f = requests_[request];
  const int kept = std::min(right, f.computed);
  slots_.append(f.slot, std::span(f.guesses).first(size_t(kept)));
  f.fed += kept;
  learn_rates(f, {double(right), right < guessed ? 1.0 : 0.0, right == guessed && f.unsure ? 1.0 : 0.0});
}

void ModelDrafter::learn_rates(Followed& f, const GuessRates& seen) {
  f.rates.add(seen, kOneWindow);
  rates_.add(seen, kAllWindow);
}

}  // namespace fettle
