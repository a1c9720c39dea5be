// Room cli: commands as people type them. One file per command in command/; this table is also where help, completion and the man page come from.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "pipeline/pipeline.h"

namespace fettle {

// Options that every command understands.
struct Common {
  StageContext stage;
  bool json = false;
  std::string config_file, progress;
};

struct Command {
  const char* name;          // "tune", "data check"
  const char* summary;       // one line
  const char* examples;      // lines "  fettle tune ..."
  // Adds options to `app`; returns what to run after parsing. The document returned is what --json prints; exit code from document["ok"] and gates.
  std::function<Json()> (*setup)(CLI::App& app, Common& common);
};
std::span<const Command* const> commands();

}  // namespace fettle
