// Room engine: sessions on one model: continuous batching over a paged KV cache with prefix reuse, sampling, and constrained choices. One
// thread runs the model; submit() and cancel() may be called from any.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/model.h"

namespace fettle {

struct Sampling {
  float temperature = 0;  // 0: greedy
  float top_p = 1, min_p = 0;
  int top_k = 0;                                      // 0: off
  float repeat_penalty = 1;                           // llama.cpp's, over the last 64 tokens
  float presence_penalty = 0, frequency_penalty = 0;  // OpenAI's, over generated tokens
  uint64_t seed = 0;
  std::map<int, float> logit_bias;
};

// A closed set of answers. Decoding walks their token trie, so nothing else can come out; the end token is allowed where an answer ends.
class Choices {
 public:
  Choices(const Tokenizer& tokenizer, const std::vector<std::string>& answers);
  ~Choices();
  // Ids allowed after `generated` (the end token included where an answer is complete); empty: generated is no prefix of any answer.
  std::vector<int> allowed(std::span<const int> generated) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

enum class Finish { none, stop, length, cancelled, error };
const char* finish_name(Finish finish);  // OpenAI's words: "stop", "length", ...

struct TokenLogProb {
  int id = -1;
  float log_prob = 0;
};

// One step of an answer.
struct Piece {
  int id = -1;       // -1: no new token (the last event of a finished request)
  std::string text;  // complete UTF-8; may be empty while bytes are held back
  float log_prob = 0;
  std::vector<TokenLogProb> top;
  Finish finish = Finish::none;
  std::string error;
  bool prompt = false;    // a token of the prompt, scored (Request::prompt_log_probs); its text is empty
  int cached_tokens = 0;  // prompt tokens that the prefix cache held
};

struct Request {
  std::vector<int> prompt;
  Sampling sampling;
  int max_tokens = 256;
  std::vector<std::string> stop;  // text that ends the answer and is not part of it
  std::shared_ptr<const Choices> choices;
  int top_log_probs = 0;
  bool ignore_end = false;
  bool prompt_log_probs = false;  // one Piece per prompt token but the first; max_tokens may then be 0. Reads no prefix cache
};

struct Answer {
  std::vector<int> ids;  // the end token included
  std::string text;
  Finish finish = Finish::none;
  double log_prob = 0;  // sum over generated tokens (the end token included)
  int prompt_tokens = 0, cached_tokens = 0;
  double first_token_seconds = 0, seconds = 0;
  std::string error;
};

// Prompt tokens per step: enough that weights read once serve many, and few enough that answers beside them do not wait long. Many small
// experts share them out, so that it takes more.
int usual_chunk(const Config& config);

struct EngineOptions {
  int parallel = 16;      // sequences decoded together
  int context = 4096;     // tokens per sequence, prompt and answer; <= the model's
  int prefill_chunk = 0;  // prompt tokens per step; 0: usual_chunk()
  int threads = 0;
  const Format* kv = nullptr;  // what keys and values are kept in: F32, F16 or Q8_0; nullptr: KvCache::usual_element()
  bool prefix_cache = true;
  bool speculate = true;         // guess tokens ahead where that costs little; answers stay the same
  std::shared_ptr<Model> draft;  // a smaller model of the same tokens that guesses too, where that pays; nullptr: none
  Precision precision = Precision::serving;
  uint64_t kv_bytes = 0;  // limit of the cache's memory; 0: parallel * context tokens, at most half of this machine's memory

  const Format* kv_element() const { return kv ? kv : KvCache::usual_element(precision); }
};

struct EngineStats {
  int running = 0, waiting = 0;
  uint64_t requests = 0, prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  uint64_t guessed_tokens = 0, right_guesses = 0;       // of all
  uint64_t draft_guesses = 0, right_draft_guesses = 0;  // those of the draft model
};

struct EmbedOptions {
  std::optional<Pooling> pooling;  // nullopt: the model's own
  bool normalize = true;           // to length 1
  int threads = 0;
  Precision precision = Precision::serving;
};

// Makes one vector of each text, by an encoder or a decoder. One call at a time works, others wait.
class Embedder {
 public:
  // Error{refused}: the model does not fit into memory.
  Embedder(std::shared_ptr<Model> model, EmbedOptions options);
  ~Embedder();
  // A text as the model reads it, its begin and end tokens included. What the model's context does not hold is left out, before the end
  // tokens, and `cut` says so.
  std::vector<int> encode(std::string_view text, bool& cut) const;
  // Cuts ready ids in the same way; false: nothing to cut.
  bool cut(std::vector<int>& ids) const;
  // (d_model) for each text; the values do not depend on what else is asked for. Error{refused}: a text has no token, more than the context
  // or ids that are none; the vector of a text is not finite.
  std::vector<std::vector<float>> embed(std::span<const std::vector<int>> texts, const std::function<void(size_t)>& progress = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Engine {
 public:
  // An encoder's engine embeds and answers no request: submit() refuses. Throws Error{refused} when the cache cannot hold one context, or
  // ids mean something else to the draft model.
  Engine(std::shared_ptr<Model> model, EngineOptions options);
  ~Engine();  // cancels what runs

  Model& model();
  const EngineOptions& options() const;
  // Throws Error{refused} when the prompt is empty, holds bad ids, or prompt + 1 exceeds the context (the text says by how much). on_piece
  // is called from the engine's thread, in order, and must not throw; the last call has finish != none.
  uint64_t submit(Request request, std::function<void(const Piece&)> on_piece);
  void cancel(uint64_t id);
  // submit() and wait. Many threads may call it at once; their requests are batched together.
  Answer generate(Request request);
  // All of them, batched; answers in order. progress(done) is called as they finish.
  std::vector<Answer> generate_all(std::vector<Request> requests, const std::function<void(size_t)>& progress = {});
  EngineStats stats() const;
  // With the model's pooling, normalized; made when it is first asked for.
  const Embedder& embedder();
  // By that one; counted as a request.
  std::vector<std::vector<float>> embed(std::span<const std::vector<int>> texts);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fettle
