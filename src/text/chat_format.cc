// Conversations become ids here, for training and serving alike. The answer's ids are those that follow the prompt's in the rendered
// conversation; where the prompt's last token would have joined the answer's first, the answer is encoded by itself, since that is how a
// served model goes on: after the prompt, token by token.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/base.h"
#include "text/dataset.h"

namespace fettle {

using nlohmann::ordered_json;

namespace {

ordered_json json_of(const std::vector<Message>& messages) {
  ordered_json list = ordered_json::array();
  for (const Message& message : messages) list.push_back({{"role", message.role}, {"content", message.content}});
  return list;
}

bool starts_with(const std::vector<int>& ids, const std::vector<int>& start) {
  return ids.size() >= start.size() && std::equal(start.begin(), start.end(), ids.begin());
}

std::string token_name(const Tokenizer& tokenizer, int id) { return id >= 0 ? tokenizer.name(id) : std::string(); }

void fill_tokens(const Tokenizer& tokenizer, TemplateInput& input) {
  input.bos_token = token_name(tokenizer, tokenizer.spec().bos);
  input.eos_token = token_name(tokenizer, tokenizer.spec().eos);
}

}  // namespace

Rendered ChatFormat::rendered(const std::vector<Message>& messages, bool generation_prompt) const {
  const ordered_json list = json_of(messages);
  TemplateInput input;
  input.messages = &list;
  input.add_generation_prompt = generation_prompt;
  fill_tokens(tokenizer_, input);
  return template_.render_marked(input);
}

std::string ChatFormat::render(const std::vector<Message>& messages, bool generation_prompt) const {
  return rendered(messages, generation_prompt).text;
}

std::vector<int> ChatFormat::prompt(const std::vector<Message>& messages) const {
  const Rendered text = rendered(messages, true);
  return tokenizer_.encode_chat(text.text, text.quoted);
}

std::vector<int> ChatFormat::prompt(TemplateInput input) const {
  input.add_generation_prompt = true;
  fill_tokens(tokenizer_, input);
  const Rendered text = template_.render_marked(input);
  return tokenizer_.encode_chat(text.text, text.quoted);
}

// ---- training rows ----

// An assistant's turn: what the model reads, and what it is to answer.
struct ChatFormat::Turn {
  std::vector<int> prompt, answer;  // answer ends with its end-of-turn token, if the template writes one
  bool cut = false;                 // whether the template let itself be cut between the two
};

namespace {

std::vector<int> encode_from(const Tokenizer& tokenizer, const Rendered& whole, size_t from) {
  std::vector<TextSpan> spans;
  for (const TextSpan& span : whole.quoted) {
    if (span.end > from) spans.push_back({std::max(span.begin, from) - from, span.end - from});
  }
  return tokenizer.encode_chat(std::string_view(whole.text).substr(from), spans);
}

// Where the answer begins in `whole`: behind the prompt. Where a template asks for something else in its generation prompt than it writes
// before a finished answer (DeepSeek-R1's "<think>"), behind what they share, which must hold all messages before. npos: nowhere.
size_t answer_begin(const Rendered& whole, const std::string& prompt, const std::string& before) {
  if (whole.text.starts_with(prompt)) return prompt.size();
  const auto differs = std::mismatch(whole.text.begin(), whole.text.end(), prompt.begin(), prompt.end()).first;
  auto common = static_cast<size_t>(differs - whole.text.begin());
  for (const TextSpan& span : whole.quoted) {
    if (span.begin >= before.size()) common = std::min(common, span.begin);
  }
  return common >= before.size() && whole.text.starts_with(before) ? common : std::string::npos;
}

// SentencePiece writes a blank before a text's first word, also where the answer, encoded by itself, does not begin the text.
std::vector<int> encode_answer(const Tokenizer& tokenizer, const Rendered& whole, size_t begin) {
  const bool blank = tokenizer.spec().model == "llama" && tokenizer.spec().add_space_prefix && whole.text.substr(begin, 1) == " ";
  return encode_from(tokenizer, whole, begin + (blank ? 1 : 0));
}

}  // namespace

// The turn of messages[n].
ChatFormat::Turn ChatFormat::turn(const std::vector<Message>& messages, size_t n) const {
  const std::vector<Message> before(messages.begin(), messages.begin() + static_cast<ptrdiff_t>(n));
  const std::vector<Message> with(messages.begin(), messages.begin() + static_cast<ptrdiff_t>(n) + 1);
  const Rendered prompt = rendered(before, true), whole = rendered(with, false);
  Turn turn;
  turn.prompt = tokenizer_.encode_chat(prompt.text, prompt.quoted);
  std::vector<int> ids = tokenizer_.encode_chat(whole.text, whole.quoted);
  if (whole.text.starts_with(prompt.text) && starts_with(ids, turn.prompt)) {
    turn.answer.assign(ids.begin() + static_cast<ptrdiff_t>(turn.prompt.size()), ids.end());
  } else {
    const std::string plain = whole.text.starts_with(prompt.text) ? std::string() : rendered(before, false).text;
    const size_t begin = answer_begin(whole, prompt.text, plain);
    if (begin == std::string::npos) {
      turn.prompt = std::move(ids);
      return turn;
    }
    turn.answer = encode_answer(tokenizer_, whole, begin);
  }
  // Nothing that follows the last end token (a line end, mostly) is ever asked of the model.
  const auto end = std::find_if(turn.answer.rbegin(), turn.answer.rend(), [&](int id) { return tokenizer_.is_end(id); });
  if (end != turn.answer.rend()) turn.answer.erase(end.base(), turn.answer.end());
  turn.cut = true;
  return turn;
}

TokenRow ChatFormat::train_row(const Example& example) const {
  const std::vector<Message>& messages = example.messages;
  CHECK(!messages.empty() && messages.back().role == "assistant", "an example ends with its answer");
  Turn last = turn(messages, messages.size() - 1);
  TokenRow row;
  row.ids = std::move(last.prompt);
  row.ids.insert(row.ids.end(), last.answer.begin(), last.answer.end());
  row.labels.assign(row.ids.size(), -100);
  const auto learn = [&](size_t from, size_t n) {
    std::copy_n(row.ids.begin() + static_cast<ptrdiff_t>(from), n, row.labels.begin() + static_cast<ptrdiff_t>(from));
  };
  if (last.cut && messages.back().train) learn(row.ids.size() - last.answer.size(), last.answer.size());
  for (size_t i = 0; i + 1 < messages.size(); ++i) {
    if (messages[i].role != "assistant" || !messages[i].train) continue;
    const Turn earlier = turn(messages, i);
    std::vector<int> ids = earlier.prompt;
    ids.insert(ids.end(), earlier.answer.begin(), earlier.answer.end());
    if (earlier.cut && starts_with(row.ids, ids)) learn(earlier.prompt.size(), earlier.answer.size());
  }
  return row;
}

// ---- parity ----

namespace {

std::string shown(const Tokenizer& tokenizer, const std::vector<int>& ids) {
  constexpr size_t kMost = 600;
  std::string text = tokenizer.decode(ids, true);
  if (text.size() > kMost) text = "..." + text.substr(text.size() - kMost);
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void prove_parity(const ChatFormat& format, const std::vector<Example>& sample) {
  const Tokenizer& tokenizer = format.tokenizer();
  for (const Example& example : sample) {
    const std::vector<Message> before(example.messages.begin(), example.messages.end() - 1);
    const std::vector<int> prompt = format.prompt(before);
    const TokenRow row = format.train_row(example);
    const std::string place = example.file + ":" + std::to_string(example.row);
    const std::string both = "serving reads " + shown(tokenizer, prompt) + "; training reads " + shown(tokenizer, row.ids);
    if (!starts_with(row.ids, prompt) || row.ids.size() == prompt.size()) {
      throw refused(place, "training and serving would see different tokens: the chat template does not write the prompt before the answer",
                    both);
    }
    if (!example.messages.back().train) continue;
    if (row.labels[prompt.size()] == -100 || (!prompt.empty() && row.labels[prompt.size() - 1] != -100)) {
      throw refused(place, "the loss does not begin where the answer begins", both);
    }
    if (!tokenizer.is_end(row.labels.back())) {
      throw refused(
          place, "the loss holds no end-of-turn token, so the tuned model would never stop: the chat template writes none after an answer",
          both);
    }
  }
}

TokenStatistics token_statistics(const std::vector<TokenRow>& rows, int max_tokens) {
  TokenStatistics statistics;
  if (rows.empty()) return statistics;
  std::vector<int> lengths;
  lengths.reserve(rows.size());
  for (const TokenRow& row : rows) {
    const auto n = static_cast<int>(row.ids.size());
    lengths.push_back(n);
    statistics.total += n;
    statistics.trained += std::count_if(row.labels.begin(), row.labels.end(), [](int label) { return label != -100; });
    statistics.truncated += n > max_tokens ? 1 : 0;
  }
  std::sort(lengths.begin(), lengths.end());
  // The smallest length that this share of all rows does not exceed.
  const auto quantile = [&](size_t percent) { return lengths[(lengths.size() * percent + 99) / 100 - 1]; };
  statistics.p50 = quantile(50);
  statistics.p90 = quantile(90);
  statistics.max = lengths.back();
  return statistics;
}

}  // namespace fettle
