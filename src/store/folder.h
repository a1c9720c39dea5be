// What a model's folder on Hugging Face consists of.
#pragma once
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>

namespace fettle {

// The files beside its weights that say what a folder's model is, where it has them: paths below the folder, "config.json" first.
std::span<const char* const> model_folder_files();

// The names of the shards in the text of a model.safetensors.index.json. Error{refused} naming `place`: nonsense, or names that are no
// files of the folder.
std::set<std::string> shard_names(std::string_view index, const std::string& place);

}  // namespace fettle
