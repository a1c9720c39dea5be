// The rules that a GGUF names instead of spelling them out: tokenizer.ggml.model and tokenizer.ggml.pre.
#pragma once
#include "text/token_rules.h"
#include "text/tokenizer.h"

namespace fettle {

// Throws Error{refused} for a model or a pre-tokenizer that is not known.
TokenRules rules_of_gguf(const TokenizerSpec& spec);
// The name for steps as a tokenizer.json has them; "" when none is known.
std::string gguf_name_of(const TokenRules& rules);

}  // namespace fettle
