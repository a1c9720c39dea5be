// Source: OpenAI's API reference (chat and completions, "create"); top_k, min_p, repetition_penalty and ignore_eos as other local servers
// call them. Fields that nobody here knows are ignored: clients send many.
#include "serve/ask.h"

#include <charconv>
#include <random>

namespace fettle {
namespace {

constexpr size_t kMaxStops = 16, kMaxStopBytes = 1024;
constexpr int kMaxAnswers = 16;

std::vector<std::string> read_stop(const Fields& fields) {
  const Json* stop = fields.find("stop");
  if (!stop) return {};
  const auto one = [](const Json& entry) {
    if (!entry.is_string()) throw bad_type("stop", "a string or a list of strings");
    std::string text = entry.get<std::string>();
    if (text.size() > kMaxStopBytes) throw bad_value("stop", "has a string of more than " + std::to_string(kMaxStopBytes) + " bytes");
    return text;
  };
  if (!stop->is_array()) return {one(*stop)};
  if (stop->size() > kMaxStops) throw bad_value("stop", "has more than " + std::to_string(kMaxStops) + " strings");
  std::vector<std::string> stops;
  for (const Json& entry : *stop) stops.push_back(one(entry));
  return stops;
}

std::map<int, float> read_logit_bias(const Fields& fields, int vocabulary) {
  std::map<int, float> biases;
  const Json* object = fields.object("logit_bias");
  if (!object) return biases;
  for (const auto& [key, value] : object->items()) {
    int id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= vocabulary) {
      throw bad_value("logit_bias", "must have token ids below " + std::to_string(vocabulary) + " as keys");
    }
    if (!value.is_number()) throw bad_type("logit_bias", "an object of numbers");
    const double bias = value.get<double>();
    if (!(bias >= -100 && bias <= 100)) throw bad_value("logit_bias", "must have values between -100 and 100");
    biases[id] = float(bias);
  }
  return biases;
}

uint64_t random_seed() {
  thread_local std::random_device device;
  return uint64_t(device()) << 32 | device();
}

void read_sampling(const Fields& fields, Sampling& s, int n, float default_temperature) {
  s.temperature = float(fields.number("temperature", 0, 2).value_or(n > 1 ? 1.0 : double(default_temperature)));
  s.top_p = float(fields.number("top_p", 0, 1).value_or(1));
  s.min_p = float(fields.number("min_p", 0, 1).value_or(0));
  s.top_k = int(std::max<int64_t>(fields.integer("top_k", -1, 1 << 30).value_or(0), 0));
  s.presence_penalty = float(fields.number("presence_penalty", -2, 2).value_or(0));
  s.frequency_penalty = float(fields.number("frequency_penalty", -2, 2).value_or(0));
  for (const char* name : {"repeat_penalty", "repetition_penalty"}) {
    if (const auto penalty = fields.number(name, 0.01, 10)) s.repeat_penalty = float(*penalty);
  }
}

// Silence would be taken for consent.
void refuse_unsupported(const Fields& fields) {
  if (const Json* format = fields.object("response_format")) {
    const auto type = Fields(*format, "response_format").string("type");
    if (!type) throw ApiError(400, "'response_format.type' is missing", "missing_required_parameter", "response_format.type");
    if (*type != "text") throw unsupported("response_format", "of other types than 'text' is not supported yet");
  }
  if (const Json* modalities = fields.find("modalities"); modalities && *modalities != Json::array({"text"})) {
    throw unsupported("modalities", "other than [\"text\"] are not supported");
  }
  if (fields.find("audio")) throw unsupported("audio", "is not supported");
  fields.string("user");
}

}  // namespace

AskFields read_common(const Fields& fields, const Served& model, float default_temperature) {
  AskFields read;
  refuse_unsupported(fields);
  read.n = int(fields.integer("n", 1, kMaxAnswers).value_or(1));
  Request& r = read.common;
  read_sampling(fields, r.sampling, read.n, default_temperature);
  r.sampling.logit_bias = read_logit_bias(fields, model.engine->model().config.vocabulary);
  const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX);
  r.sampling.seed = seed ? uint64_t(*seed) : random_seed();
  r.stop = read_stop(fields);
  r.ignore_end = fields.boolean("ignore_eos").value_or(false);
  read.stream = fields.boolean("stream").value_or(false);
  if (const Json* options = fields.object("stream_options")) {
    if (!read.stream) throw bad_value("stream_options", "is for requests with 'stream': true only");
    read.include_usage = Fields(*options, "stream_options").boolean("include_usage").value_or(false);
  }
  return read;
}

std::vector<int> read_ids(const Json& list, int vocabulary, const char* param, const char* words) {
  std::vector<int> ids;
  if (!list.is_array()) throw bad_type(param, words);
  for (const Json& id : list) {
    if (!id.is_number_integer()) throw bad_type(param, words);
    const bool negative = !id.is_number_unsigned() && id.get<int64_t>() < 0;
    if (negative || id.get<uint64_t>() >= uint64_t(vocabulary))
      throw bad_value(param, "holds a token id outside the vocabulary of " + std::to_string(vocabulary));
    ids.push_back(id.get<int>());
  }
  if (ids.empty()) throw bad_value(param, "is empty");
  return ids;
}

int read_max_tokens(const Fields& fields, int64_t least, int absent, int room) {
  std::optional<int64_t> most;
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const auto given = fields.integer(name, least, INT64_MAX)) most = given;
  }
  return int(std::min<int64_t>(most.value_or(absent), room));
}

static ApiError too_long(size_t context, const std::string& tokens, size_t excess, const char* param) {
  return ApiError(400,
                  "this model is served with a context of " + std::to_string(context) + " tokens (--context) and the prompt has " + tokens +
                      ": with room for one token of an answer that is " + std::to_string(excess) + " too many",
                  "context_length_exceeded", param);
}

void check_length(const Served& model, size_t prompt_tokens, const char* param) {
  const size_t context = size_t(model.engine->options().context);
  if (prompt_tokens + 1 > context) throw too_long(context, std::to_string(prompt_tokens), prompt_tokens + 1 - context, param);
}

void check_bytes(const Served& model, size_t prompt_bytes, const char* param) {
  const size_t context = size_t(model.engine->options().context);
  if (prompt_bytes <= 16 * context) return;
  const Tokenizer& tokenizer = *model.engine->model().tokenizer;
  size_t longest = 1;
  for (int id = 0; id < tokenizer.size(); id++) longest = std::max({longest, tokenizer.piece(id).size(), tokenizer.name(id).size()});
  const size_t least = prompt_bytes / longest;
  if (least + 1 > context) throw too_long(context, "at least " + std::to_string(least), least + 1 - context, param);
}

void add_requests(Ask& ask, const AskFields& fields, const std::vector<int>& prompt, int max_tokens) {
  ask.prompt_tokens += int(prompt.size());
  for (int i = 0; i < fields.n; i++) {
    Request request = fields.common;
    request.sampling.seed += uint64_t(i);
    request.max_tokens = max_tokens;
    request.prompt = prompt;
    ask.requests.push_back(std::move(request));
  }
  ask.answers = ask.requests.size();
}

}  // namespace fettle
