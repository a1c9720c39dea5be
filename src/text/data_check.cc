// What is wrong with a data set though each row alone is fine: rows twice, rows nearly twice, one question with two answers, held-out rows
// that training has seen, labels spelled in two ways, personal data. Every search is by hashes, so the time grows with the bytes.
#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "base/base.h"
#include "text/dataset.h"
#include "text/personal_data.h"
#include "text/row_text.h"
#include "text/similar.h"

namespace fettle {
namespace {

// From this similarity on two questions count as one asked twice. At 0.8 a sentence of twelve words has one word exchanged.
constexpr double kNear = 0.8;
constexpr size_t kMaxWarnings = 1000;  // of one kind

class Inspector {
 public:
  Inspector(const Dataset& data, const std::vector<size_t>& train, const std::vector<size_t>& held_out) : data_(data) {
    for (const std::vector<size_t>* side : {&train, &held_out})
      for (size_t row : *side) CHECK(row < data.examples.size());
  }
  DataReport run(const std::vector<size_t>& train, const std::vector<size_t>& held_out) {
    compare_exactly();
    compare_nearly();
    find_leaks(train, held_out);
    check_labels();
    check_privacy();
    add_uncounted();
    return std::move(report_);
  }

 private:
  void compare_exactly();
  void compare_nearly();
  void find_leaks(const std::vector<size_t>& train, const std::vector<size_t>& held_out);
  void check_labels();
  void check_privacy();
  void add_uncounted();
  void warn(size_t row, const std::string& kind, std::string message);

  const Dataset& data_;
  DataReport report_;
  std::vector<uint32_t> distinct_;  // first row of each exact question
  Sketches sketches_;               // of the rows in distinct_
  std::vector<uint64_t> questions_;
  std::map<std::string, size_t> warned_;
};

void Inspector::warn(size_t row, const std::string& kind, std::string message) {
  const Example& example = data_.examples[row];
  if (++warned_[kind] <= kMaxWarnings) report_.warnings.push_back({example.file, example.row, kind, std::move(message), false});
}

void Inspector::add_uncounted() {
  for (auto& [kind, count] : warned_)
    if (count > kMaxWarnings)
      report_.warnings.push_back({"", 0, kind, std::to_string(count - kMaxWarnings) + " more rows with warnings of this kind", false});
}

void Inspector::compare_exactly() {
  std::unordered_map<uint64_t, size_t> rows, questions;
  for (size_t row = 0; row < data_.examples.size(); row++) {
    if (row % 1024 == 0) stop_if_interrupted();
    const Example& example = data_.examples[row];
    uint64_t question = exact_question(example);
    questions_.push_back(question);
    auto [asked, new_question] = questions.try_emplace(question, row);
    auto [seen, new_row] = rows.try_emplace(hash64(folded(example.answer()), question), row);
    if (new_question) {
      distinct_.push_back(uint32_t(row));
    } else if (new_row) {
      report_.conflicts.push_back({asked->second, row, 1});
    } else {
      report_.duplicates.push_back({seen->second, row, 1});
    }
  }
}

void Inspector::compare_nearly() {
  for (uint32_t row : distinct_) {
    if (sketches_.size() % 1024 == 0) stop_if_interrupted();
    sketches_.add(words_of(folded(question_of(data_.examples[row]))));
  }
  for (const SimilarPair& pair : similar_pairs(sketches_, kNear))
    report_.near_duplicates.push_back({distinct_[pair.a], distinct_[pair.b], pair.similarity});
}

// One pair for each held-out row that training has seen: the same question, or else the nearest one.
void Inspector::find_leaks(const std::vector<size_t>& train, const std::vector<size_t>& held_out) {
  if (train.empty() || held_out.empty()) return;
  std::unordered_map<uint64_t, size_t> trained;      // question -> row
  std::unordered_map<uint64_t, uint32_t> sketch_of;  // question -> index into distinct_
  for (size_t row : train) trained.try_emplace(questions_[row], row);
  for (uint32_t i = 0; i < distinct_.size(); i++) sketch_of.emplace(questions_[distinct_[i]], i);
  std::vector<uint32_t> first, second;
  std::unordered_set<uint64_t> asked;
  for (auto& [question, row] : trained) first.push_back(sketch_of.at(question));
  for (size_t row : held_out)
    if (!trained.contains(questions_[row]) && asked.insert(questions_[row]).second) second.push_back(sketch_of.at(questions_[row]));
  std::unordered_map<uint64_t, DataReport::Pair> near;  // by the held-out question
  for (const SimilarPair& pair : similar_pairs(sketches_, first, second, kNear))
    near[questions_[distinct_[pair.b]]] = {trained.at(questions_[distinct_[pair.a]]), 0, pair.similarity};
  for (size_t row : held_out) {
    if (auto same = trained.find(questions_[row]); same != trained.end()) {
      report_.leaks.push_back({same->second, row, 1});
    } else if (auto alike = near.find(questions_[row]); alike != near.end()) {
      report_.leaks.push_back({alike->second.a, row, alike->second.similarity});
    }
  }
}

// Case, blanks, hyphens and a full stop at the end do not make another label.
std::string label_key(const std::string& label) {
  std::string key = label;
  for (char& c : key)
    if (c == '_' || c == '-') c = ' ';
  key = folded(key);
  if (key.size() > 1 && key.ends_with('.')) key.pop_back();
  return key;
}

// Answers that are labels (few, short, each many times) and one of them in two spellings, or once only.
void Inspector::check_labels() {
  constexpr size_t kMaxLabelBytes = 64, kMinRowsPerLabel = 5;
  struct Use {
    size_t rows = 0, first = 0;
  };
  std::map<std::string, Use> uses;
  for (size_t row = 0; row < data_.examples.size(); row++) {
    const std::string& answer = data_.examples[row].answer();
    if (answer.size() > kMaxLabelBytes) return;
    Use& use = uses[answer];
    if (!use.rows++) use.first = row;
    if (uses.size() * kMinRowsPerLabel > data_.examples.size()) return;
  }
  std::map<std::string, const std::pair<const std::string, Use>*> spellings;  // the commonest of each
  for (const auto& use : uses) {
    auto& best = spellings[label_key(use.first)];
    if (!best || use.second.rows > best->second.rows) best = &use;
  }
  for (const auto& [label, use] : uses) {
    const auto& best = *spellings[label_key(label)];
    if (best.first != label) {
      warn(use.first, "label-spelling",
           "the answer \"" + label + "\" (" + std::to_string(use.rows) + " rows) looks like \"" + best.first + "\" (" +
               std::to_string(best.second.rows) + " rows) in another spelling");
    } else if (use.rows == 1) {
      warn(use.first, "rare-label", "the answer \"" + label + "\" stands in this row only: it can be learned or measured, not both");
    }
  }
}

void Inspector::check_privacy() {
  for (size_t row = 0; row < data_.examples.size(); row++) {
    if (row % 1024 == 0) stop_if_interrupted();
    std::unordered_set<std::string> kinds;
    const auto& messages = data_.examples[row].messages;
    for (size_t i = 0; i < messages.size(); i++) {
      std::string place = "message " + std::to_string(i + 1) + " (" + messages[i].role + ") holds what looks like ";
      for (const PersonalData& found : find_personal_data(messages[i].content))
        if (kinds.insert(found.kind).second) warn(row, "pii-" + found.kind, place + found.what + ": " + found.shown);
    }
  }
}

}  // namespace

DataReport inspect_dataset(const Dataset& data, const std::vector<size_t>& train, const std::vector<size_t>& held_out) {
  CHECK(data.examples.size() < 0x7fffffffu);
  return Inspector(data, train, held_out).run(train, held_out);
}

}  // namespace fettle
