// Hand-written scanners for the regexes by which most models cut text up; of the same meaning, and linear.
#pragma once
#include <cstddef>
#include <optional>
#include <string_view>

namespace fettle {

// The regexes fall into three families that differ in a few places only.
struct PreTokenizer {
  enum class Family {
    gpt2,    // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    cl100k,  // (?i:'s|…)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
    cased,   // words split where lower case meets upper case (tekken, o200k); then as cl100k without the contractions in front
  };
  Family family = Family::gpt2;
  int max_digits = 0;         // cl100k, cased: \p{N}{1,max_digits}. gpt2: 1 splits every number off before anything else; 0: \p{N}+
  bool marks = false;         // cl100k: \p{M} counts as a letter
  bool slash = false;         // cased: punctuation may end in [\r\n/]* instead of [\r\n]*
  bool contractions = false;  // cased: a word takes a following 's, 't, … with it
};

// The scanner for a regex (Oniguruma's syntax) whose matches are all pieces; nullopt when there is none.
std::optional<PreTokenizer> find_scanner(std::string_view regex);

// Length in bytes of the pre-token that starts at text[start]; at least 1. start < text.size().
size_t pre_token_bytes(const PreTokenizer& rule, std::string_view text, size_t start) noexcept;

}  // namespace fettle
