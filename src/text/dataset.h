// Examples: files of many shapes -> conversations -> token rows with a loss mask; and the checks that catch a bad file before it costs
// time.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace fettle {

struct Message {
  std::string role;  // system, user, assistant, tool
  std::string content;
  bool train = true;  // assistant turns only: whether the loss covers it ("weight": 0 in OpenAI's format turns it off)
};

// One conversation; its last message is the assistant's: the expected answer.
struct Example {
  std::vector<Message> messages;
  std::string file;
  int64_t row = 0;  // 1-based line (JSONL, CSV) or element (JSON array) in `file`
  const std::string& answer() const { return messages.back().content; }
};

// A row that was not accepted, or that deserves a look.
struct Problem {
  std::string file;
  int64_t row = 0;
  std::string kind;  // "json", "role", "empty-answer", "no-assistant", "utf8", "too-long-line", "pii-email", ...
  std::string message;
  bool fatal = true;  // fatal: the row cannot be used; else a warning
};

struct Dataset {
  std::vector<Example> examples;
  std::vector<Problem> problems;
  int64_t rows = 0;    // rows seen, accepted or not
  std::string shape;   // "openai", "sharegpt", "alpaca", "prompt-completion", "csv"
  std::string digest;  // SHA-256 of the files' bytes
  // Throws Error{refused} at the first fatal problem, its hint counting how many more there are and naming --skip-bad.
  void require_clean() const;
};

// source: a file (.jsonl .json .csv), a folder of such, or "file.csv:text=message,label=intent" naming CSV columns.
// Streams: a 100 MB line is refused without being held; BOM and CRLF are fine. Only a missing or unreadable file throws.
Dataset read_dataset(const std::string& source);
// The file or folder that a source names, without columns: "file.csv" of "file.csv:text=message". Error{usage} for columns that are none.
fs::path source_path(const std::string& source);
void require_source(const std::string& source);  // Error{refused}: there is no such file or folder

// Duplicates, near-duplicates (shingled MinHash), leaks between splits, the same question with different answers, PII.
struct DataReport {
  struct Pair {
    size_t a, b;  // indices into examples
    double similarity;
  };
  std::vector<Pair> duplicates, near_duplicates, conflicts;
  std::vector<Pair> leaks;  // a in train, b in held-out
  std::vector<Problem> warnings;
};
DataReport inspect_dataset(const Dataset& data, const std::vector<size_t>& train, const std::vector<size_t>& held_out);

// Deterministic split: which examples are held out depends on their text and the seed alone, never on file order; exact duplicates
// of a question fall on one side. fraction in (0, 1); at least one row on each side when there are two.
struct Split {
  std::vector<size_t> train, held_out;
};
Split split_dataset(const Dataset& data, double held_out_fraction, uint64_t seed);

// One training row. labels[i] == ids[i] where token i is to be predicted, -100 elsewhere.
struct TokenRow {
  std::vector<int> ids;
  std::vector<int> labels;
  int64_t row = 0;  // index into the dataset
};

// How a conversation becomes tokens, in training and in serving alike: this one function is the train/serve parity.
class ChatFormat {
 public:
  ChatFormat(const Tokenizer& tokenizer, const ChatTemplate& chat_template) : tokenizer_(tokenizer), template_(chat_template) {}
  std::string render(const std::vector<Message>& messages, bool generation_prompt) const;
  // The ids a server feeds the model before it answers. Special tokens come from the template alone: spelled in a message they are text.
  std::vector<int> prompt(const std::vector<Message>& messages) const;
  // The same for messages with tool calls, tools and further variables; begin and end token and the generation prompt are filled in here.
  std::vector<int> prompt(TemplateInput input) const;
  // The conversation up to the end-of-turn token of its last message, the assistant's; the loss covers each trained assistant turn and its
  // end-of-turn token. The ids before the last turn are prompt()'s, so training sees the very ids that serving will. An earlier turn is in
  // the loss where the row shows it as it was when it was answered: templates that drop an old turn's reasoning leave that turn untrained.
  // A template that cannot be cut before the answer gives a row without labels, which prove_parity reports.
  TokenRow train_row(const Example& example) const;
  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  Rendered rendered(const std::vector<Message>& messages, bool generation_prompt) const;
  struct Turn;
  Turn turn(const std::vector<Message>& messages, size_t n) const;

  const Tokenizer& tokenizer_;
  const ChatTemplate& template_;
};

// Proves on `sample` rows, before the first step, that training and serving agree: prompt ids are a prefix of the row's ids, the loss
// starts right after them, and an end token closes the loss. Throws Error{refused} with the row and both texts when not.
void prove_parity(const ChatFormat& format, const std::vector<Example>& sample);

// Length statistics under a format: {p50, p90, max} tokens and how many rows exceed max_tokens.
struct TokenStatistics {
  int p50 = 0, p90 = 0, max = 0;
  int64_t total = 0, trained = 0, truncated = 0;
};
TokenStatistics token_statistics(const std::vector<TokenRow>& rows, int max_tokens);

// A row in two lines for people: the text, and the trained part marked.
std::string show_row(const Tokenizer& tokenizer, const TokenRow& row);

}  // namespace fettle
