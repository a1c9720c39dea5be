// tokenizer.model: SentencePiece's ModelProto (sentencepiece_model.proto), a protobuf message of which the pieces with their scores and
// types, and a few settings are read. Fields that are not known are passed over, as the format wants it. Not handled: models other than
// BPE, and precompiled normalizers (refused).
#include <cmath>
#include <cstring>

#include "base/json_text.h"
#include "model/hf_folder.h"

namespace fettle {
namespace {

// A protobuf message's fields, one after another.
class Protobuf {
 public:
  explicit Protobuf(std::string_view bytes) : rest_(bytes) {}
  struct Field {
    uint64_t number = 0, integer = 0;
    float real = 0;
    std::string_view bytes;
  };
  bool next(Field& field) {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field = {tag >> 3, 0, 0, {}};
    switch (tag & 7) {
      case 0:
        field.integer = varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        std::memcpy(&field.real, take(4).data(), 4);
        break;
      default:
        damaged();
    }
    return true;
  }

 private:
  [[noreturn]] static void damaged() { throw refused("", "is no SentencePiece model, or is damaged"); }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= uint64_t(byte & 127) << shift;
      if (byte < 128) return value;
    }
    damaged();
  }
  std::string_view take(uint64_t n) {
    if (n > rest_.size()) damaged();
    const std::string_view part = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return part;
  }
  std::string_view rest_;
};

void add_piece(std::string_view bytes, int64_t vocabulary, TokenizerSpec& spec) {
  std::string name;
  float score = 0;
  uint64_t type = 1;
  Protobuf message(bytes);
  for (Protobuf::Field f; message.next(f);) {
    if (f.number == 1) name = f.bytes;
    if (f.number == 2) score = f.real;
    if (f.number == 3) type = f.integer;
  }
  const std::string place = "piece " + std::to_string(spec.tokens.size());
  if (int64_t(spec.tokens.size()) >= vocabulary)
    throw refused("", "has more pieces than the model's " + std::to_string(vocabulary) + " tokens");
  if (name.empty() || !valid_utf8(name)) throw refused("", place + " has no proper name");
  if (!std::isfinite(score)) throw refused("", place + " has a score that is not finite");
  if (type < 1 || type > 6) throw refused("", place + " is of the unknown type " + std::to_string(type));
  spec.tokens.push_back(std::move(name));
  spec.scores.push_back(score);
  spec.types.push_back(TokenType(int(type)));  // the numbers are the same
  if (type == 2 && spec.unknown < 0) spec.unknown = int(spec.tokens.size()) - 1;
}

}  // namespace

TokenizerSpec read_sentencepiece(std::string_view bytes, int64_t vocabulary) {
  TokenizerSpec spec;
  spec.model = "llama";
  spec.pre = "default";
  uint64_t kind = 1;  // unigram
  Protobuf model(bytes);
  for (Protobuf::Field f; model.next(f);) {
    if (f.number == 1) add_piece(f.bytes, vocabulary, spec);
    Protobuf settings(f.number == 2 || f.number == 3 ? f.bytes : std::string_view());
    for (Protobuf::Field s; settings.next(s);) {
      if (f.number == 2 && s.number == 3) kind = s.integer;
      if (f.number == 3 && s.number == 2 && !s.bytes.empty()) throw refused("", "has a precompiled normalizer, which is not supported");
      if (f.number == 3 && s.number == 3) spec.add_space_prefix = s.integer != 0;
    }
  }
  if (spec.tokens.empty()) throw refused("", "is no SentencePiece model: it has no pieces");
  if (kind != 2) throw refused("", "is a SentencePiece model of kind " + std::to_string(kind) + "; only BPE (2) is supported");
  return spec;
}

}  // namespace fettle
