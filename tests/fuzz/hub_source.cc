// Sources of models as people type them: nothing that is accepted may climb out of its repository.
#include "fuzz.h"
#include "store/hub.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fettle::survives([&] {
    auto source = fettle::parse_hub_source(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
    for (const auto& text : {source.repo, source.revision, source.file})
      for (const auto& part : fettle::split(text, '/'))
        if (part == "..") std::abort();
  });
}
