// What a tokenizer does before, in and after its model, as plain data: what a tokenizer.json says step by step, and what a GGUF says by
// name. The components are those of Hugging Face's tokenizers; each is defined by what that library does with it. Private to text.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fettle {

struct PatternText {
  std::string text;
  bool regex = false;  // Oniguruma's syntax; else the text itself
};

// One change of the text before it is cut up. A BertNormalizer is several.
struct NormalStep {
  enum class Kind {
    nfc,
    nfd,
    nfkc,
    nfkd,
    lowercase,
    strip,             // white space at the left and right end
    strip_marks,       // M
    strip_nonspacing,  // Mn
    replace,
    prepend,  // not to an empty text
    append,
    nmt,         // controls dropped, kinds of white space made a space
    clean,       // the same as BERT sees it
    space_cjk,   // spaces around Chinese characters
    charsmap,    // SentencePiece's compiled map, applied to grapheme clusters (Hugging Face's reading)
    prefix_map,  // the same map, the longest prefix at each place (SentencePiece's own reading)
    spaces,      // SentencePiece's white space: merged where `right`, one in front where `left`
    letters,     // bytes as the letters of byte-level vocabularies
  };
  Kind kind;
  PatternText pattern;  // replace
  std::string text;     // replace, prepend, append: by or with what; charsmap, prefix_map: the compiled map
  bool left = false, right = false;
};

// One way of cutting a text up. What a step cuts, the next cuts further.
struct SplitStep {
  enum class Kind { pattern, numbers, white_space, punctuation, words, spaces_to, prefix_space, letters, n_characters };
  // What becomes of a match: a piece of its own, dropped, or joined to a neighbour.
  enum class Behavior { isolated, removed, with_previous, with_next, contiguous };
  enum class Prefix { always, first, never };
  Kind kind;
  PatternText pattern;  // pattern
  std::string text;     // spaces_to: what a space becomes
  Behavior behavior = Behavior::isolated;
  bool invert = false;            // what lies between the matches is the match
  Prefix prefix = Prefix::never;  // spaces_to: whether one is put in front
  bool split = false;             // spaces_to: whether pieces begin at them
  size_t n = 0;                   // n_characters
};

struct ModelRules {
  enum class Kind { bpe, unigram, word_piece, word_level, sentence_piece };
  Kind kind = Kind::bpe;
  int unknown = -1;
  bool bytes = false;          // bpe: symbols are bytes, named by letters (else characters)
  bool byte_fallback = false;  // bpe, unigram: <0xAB> for what has no token
  bool fuse_unknown = false;   // bpe
  bool ignore_merges = false;  // bpe: a piece that is a token is not merged up
  bool last_merge = false;     // bpe: of equal merges the last counts
  // bpe: what names carry that stand inside or at the end of a word. word_piece: what names carry inside (`inside`) or at the start
  // (`first`).
  std::string inside, ending, first;
  size_t max_characters = 100;  // word_piece: longer words are unknown
};

// One step from tokens' names back to text, over all tokens of an answer.
struct DecodeStep {
  enum class Kind { letters, replace, bytes, fuse, strip, spaces_from, word_piece, word_ends, cleanup, ctc };
  Kind kind;
  PatternText pattern;         // replace
  std::string text;            // replace: by what; strip, spaces_from: which character; word_piece: prefix; word_ends: suffix; ctc: padding
  std::string delimiter;       // ctc
  size_t start = 0, stop = 0;  // strip: at most so many at either end
  bool first = false;          // spaces_from: dropped in the first token
};

// A token that is cut out of the text before anything else sees it.
struct AddedToken {
  int id = -1;
  bool special = false;              // only where the caller asks for special tokens
  bool left = false, right = false;  // swallows white space on that side
  bool single_word = false;          // not where it touches a word
  bool outside = false;              // of the model's own vocabulary
  bool normalized = false;           // found in the normalized text, by its own normalized name
};

struct TokenRules {
  std::vector<NormalStep> normalizer;
  std::vector<SplitStep> splits;
  ModelRules model;
  std::vector<DecodeStep> decoder;
  std::vector<AddedToken> added;
  std::vector<int> begin, end;    // tokens around a text, when they are asked for
  bool joined_by_spaces = false;  // names, decoded: there is no decoder
  bool by_pieces = false;         // a text is the concatenation of its tokens' pieces, but for a space in front
};

}  // namespace fettle
