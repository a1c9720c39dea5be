// PCRE2 with small limits.
#include "store/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/base.h"

namespace fettle {
namespace {
constexpr uint32_t kMatchLimit = 100'000, kDepthLimit = 1000, kHeapKibibytes = 1024;
constexpr size_t kMaxExpression = 4096;
}  // namespace

Pattern::Pattern(const std::string& expression, const std::string& place) : place_(place) {
  if (expression.size() > kMaxExpression) throw refused(place, "a regular expression is longer than 4096 bytes");
  int error = 0;
  size_t at = 0;
  pcre2_code* code = pcre2_compile(PCRE2_SPTR(expression.data()), expression.size(), PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (!code) throw refused(place, "a regular expression is malformed at its byte " + std::to_string(at));
  code_ = std::shared_ptr<const void>(code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); });
}

bool Pattern::matches(std::string_view text) const {
  auto code = static_cast<const pcre2_code*>(code_.get());
  std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context(pcre2_match_context_create(nullptr),
                                                                               pcre2_match_context_free);
  if (!data || !context) throw failed(place_, "no memory for a regular expression");
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_depth_limit(context.get(), kDepthLimit);
  pcre2_set_heap_limit(context.get(), kHeapKibibytes);
  int found = pcre2_match(code, PCRE2_SPTR(text.data()), text.size(), 0, 0, data.get(), context.get());
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) throw refused(place_, "a regular expression takes too long to match");
  return true;
}

}  // namespace fettle
