// Private to cli: a Modelfile, as Ollama's `ollama create` reads it.
#pragma once
#include "model/model.h"

namespace fettle {

struct Modelfile {
  std::string text;
  std::string format;  // of chats: "chatml", …; empty: not recognised, and Ollama will have to guess
};
// from: what FROM names, the GGUF's path.
Modelfile modelfile_of(const Gguf& file, const std::string& from);

}  // namespace fettle
