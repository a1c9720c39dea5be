// Cutting a stream of token pieces at character borders: a token may end in the middle of a character.
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace fettle {
namespace {

// Whether these bytes, at the end of what has arrived so far, may still become one character.
bool may_complete(std::string_view bytes) {
  const auto lead = static_cast<uint8_t>(bytes[0]);
  const size_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || bytes.size() >= n) return false;
  std::string filled(bytes);
  // the second byte decides about overlong forms and surrogates; any second byte that is allowed makes the rest possible
  if (bytes.size() == 1) return true;
  filled.append(n - bytes.size(), '\x80');
  if (decode_character(filled).value != kInvalidByte) return true;
  filled.replace(bytes.size(), std::string::npos, n - bytes.size(), '\xBF');
  return decode_character(filled).value != kInvalidByte;
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Character c = decode_character(rest);
    if (c.value == kInvalidByte) {
      if (may_complete(rest)) break;
      out += "\xEF\xBF\xBD";
    } else {
      out += rest.substr(0, c.n_bytes);
    }
    rest.remove_prefix(c.n_bytes);
  }
  pending_ = std::string(rest);
  return out;
}

std::string Utf8Stream::finish() {
  std::string out;
  if (!pending_.empty()) out = "\xEF\xBF\xBD";
  pending_.clear();
  return out;
}

}  // namespace fettle
