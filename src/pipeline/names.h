// Private to pipeline: what may be a model's name. A name becomes a folder's name, so it has no path separators, no leading dot, and one
// case.
#pragma once
#include <string>
#include <string_view>

namespace fettle {

// [a-z0-9][a-z0-9._-]*, at most 64 characters.
bool valid_model_name(std::string_view name);
void require_model_name(const std::string& name);  // Error{usage} with a name that would do
// The nearest valid name: "Org/My Model.gguf" -> "my-model".
std::string name_from(std::string_view text);
// "3" -> 3; 0 when it is no version.
int version_number(const std::string& text);

}  // namespace fettle
