// GGUF metadata values as they lie in the file. Private to the room.
#pragma once
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "store/gguf.h"

namespace fettle {

// Names come from the file: no control characters into the terminal, no screenfuls.
std::string in_quotes(std::string_view name);

// Bytes of one value; 0: variable (string, array) or no such type.
uint64_t size_of(GgufValue::Type type);
const char* name_of(GgufValue::Type type);
bool is_number(GgufValue::Type type);

template <class T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// What metadata() has made of all values.
struct Gguf::Decoded {
  std::mutex mutex;
  bool ready = false;
  std::map<std::string, GgufValue> values;
};

}  // namespace fettle
