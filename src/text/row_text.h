// Private to text: the text of a row as the checks compare it. Two forms: folded (case and blanks do not count) says that two questions are
// the same; words (punctuation does not count either) says that they belong on one side of a split and how alike they are.
#pragma once
#include <string>
#include <string_view>

#include "text/dataset.h"

namespace fettle {

// Unicode NFKC with case folding, runs of blanks made one space, trimmed.
std::string folded(std::string_view text);
// Letters, marks and digits of a folded text; whatever lies between is one space. A text without any is given back as it is.
std::string words_of(std::string_view folded_text);
// What was said before the answer, without system messages: the same instructions before every row would make all rows look alike.
std::string question_of(const Example& example);
// 64-bit names. exact_question: all roles and contents before the answer, folded, system messages included.
uint64_t exact_question(const Example& example);
uint64_t split_key(const Example& example, uint64_t seed);

}  // namespace fettle
