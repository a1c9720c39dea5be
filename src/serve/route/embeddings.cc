// POST /v1/embeddings. Source: OpenAI's API reference (embeddings, "create"). The input is a string, a list of strings, a list of token ids
// or a list of such lists. A text that the model cannot read whole is refused: half a text's vector looks like any other. `dimensions`
// keeps the first numbers of each vector, which only models that were trained for it bear well.
#include <bit>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cmath>
#include <cstring>

#include "serve/admission.h"
#include "serve/ask.h"
#include "serve/exchange.h"
#include "serve/route.h"

namespace fettle {
namespace {

constexpr size_t kMaxTexts = 2048;
constexpr char kInputWords[] = "a string, a list of strings, a list of token ids or a list of such lists";

using Vectors = std::vector<std::vector<float>>;

struct EmbedAsk {
  Served* model = nullptr;
  std::vector<std::vector<int>> texts;
  int tokens = 0, dimensions = 0;
  bool base64 = false;
};

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t j = 0; j < 3; j++) group = group << 8 | (j < n ? uint8_t(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; j++) text += j <= n ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

std::vector<int> read_one(Served& model, const Json& input) {
  const Model& m = model.engine->model();
  if (!input.is_string()) return read_ids(input, m.tokenizer->size(), "input", kInputWords);
  const std::string& text = input.get_ref<const std::string&>();
  if (text.empty()) throw bad_value("input", "holds an empty text");
  return m.tokenizer->encode_special(text, true);
}

EmbedAsk read_embeddings(const Exchange& exchange) {
  const Json body = parse_object(exchange.request.body());
  const Fields fields(body);
  const auto name = fields.string("model");
  EmbedAsk ask;
  ask.model = &exchange.context.model(name ? &*name : nullptr);
  const Config& config = ask.model->engine->model().config;
  const std::string encoding = fields.string("encoding_format").value_or("float");
  if (encoding != "float" && encoding != "base64") throw bad_value("encoding_format", "must be 'float' or 'base64'");
  ask.base64 = encoding == "base64";
  ask.dimensions = int(fields.integer("dimensions", 1, config.d_model).value_or(config.d_model));
  fields.string("user");
  const Json* input = fields.find("input");
  if (!input) throw ApiError(400, "'input' is missing", "missing_required_parameter", "input");
  if (!input->is_string() && !input->is_array()) throw bad_type("input", kInputWords);
  const bool one = input->is_string() || (!input->empty() && input->front().is_number());
  if (!one && input->empty()) throw bad_value("input", "is empty");
  if (!one && input->size() > kMaxTexts) throw bad_value("input", "holds more than " + std::to_string(kMaxTexts) + " texts");
  for (size_t i = 0; i < (one ? 1 : input->size()); i++) {
    ask.texts.push_back(read_one(*ask.model, one ? *input : (*input)[i]));
    const size_t tokens = ask.texts.back().size();
    if (tokens > size_t(config.context))
      throw ApiError(400,
                     "text " + std::to_string(i) + " has " + std::to_string(tokens) + " tokens, and this model reads " +
                         std::to_string(config.context) + ": that is " + std::to_string(tokens - size_t(config.context)) + " too many",
                     "context_length_exceeded", "input");
    ask.tokens += int(tokens);
  }
  return ask;
}

// The first `dimensions` numbers, of length 1 again.
void shorten(std::vector<float>& vector, int dimensions) {
  if (size_t(dimensions) >= vector.size()) return;
  vector.resize(size_t(dimensions));
  double squares = 0;
  for (float v : vector) squares += double(v) * v;
  for (float& v : vector) v = squares > 0 ? float(v / std::sqrt(squares)) : v;
}

Json written(const std::vector<float>& vector, bool as_base64) {
  static_assert(std::endian::native == std::endian::little);
  if (!as_base64) return vector;
  return base64({reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float)});
}

boost::asio::awaitable<void> handle(Exchange& exchange) {
  EmbedAsk ask = read_embeddings(exchange);
  const Admission admission(*ask.model, 1, exchange.context.options.max_queue);
  exchange.prompt_tokens = ask.tokens;
  // what works there may outlive this connection
  auto work = [engine = ask.model->engine, texts = std::move(ask.texts)]() -> boost::asio::awaitable<Vectors> {
    try {
      co_return engine->embed(texts);
    } catch (const Error& error) {  // texts were looked at before
      throw ApiError(500, "the model failed: " + error.text(), "model_error");
    }
  };
  Vectors vectors = co_await boost::asio::co_spawn(exchange.context.embedding, std::move(work), boost::asio::use_awaitable);
  Json document = {{"object", "list"}, {"data", Json::array()}, {"model", ask.model->name}};
  for (size_t i = 0; i < vectors.size(); i++) {
    shorten(vectors[i], ask.dimensions);
    document["data"].push_back({{"object", "embedding"}, {"index", i}, {"embedding", written(vectors[i], ask.base64)}});
  }
  document["usage"] = {{"prompt_tokens", ask.tokens}, {"total_tokens", ask.tokens}};
  co_await exchange.send_json(dump(document));
}

}  // namespace

extern const Route embeddings_route;
const Route embeddings_route = {.method = "POST", .path = "/v1/embeddings", .handle = handle};

}  // namespace fettle
