// SentencePiece's compiled character map: a double array from byte strings to places in a list of replacements.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

class CharsMap {
 public:
  // `compiled`: the array's length in bytes (u32, little endian), its units (u32), the replacements, each ended by a zero byte.
  // Error{refused} naming `place` when the lengths do not agree.
  CharsMap(std::string_view compiled, const std::string& place);

  struct Match {
    size_t n_bytes;  // of the text
    std::string_view by;
  };
  // The shortest and the longest entry that the text begins with.
  std::optional<Match> shortest(std::string_view text) const noexcept { return find(text, false); }
  std::optional<Match> longest(std::string_view text) const noexcept { return find(text, true); }

 private:
  std::optional<Match> find(std::string_view text, bool longest) const noexcept;
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace fettle
