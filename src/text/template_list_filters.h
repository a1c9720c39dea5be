// Filters over lists and dictionaries.
#pragma once
#include "text/template_run.h"

namespace fettle::jinja {

Value sorted(Run& run, const Value& self, const Args& args);
Value dictsort(Run& run, const Value& self, const Args& args);
Value unique(Run& run, const Value& self, const Args& args);
Value extreme(Run& run, const Value& self, const Args& args, bool greatest);
Value groupby(Run& run, const Value& self, const Args& args);
Value map(Run& run, const Value& self, const Args& args);
Value select(Run& run, const Value& self, const Args& args, bool by_attribute, bool wanted);
Value join(Run& run, const Value& self, const Args& args);
Value length(Run& run, const Value& self, const Args& args);
Value first(Run& run, const Value& self, const Args& args);
Value last(Run& run, const Value& self, const Args& args);
Value reverse(Run& run, const Value& self, const Args& args);
Value batch(Run& run, const Value& self, const Args& args);
Value slices(Run& run, const Value& self, const Args& args);
Value sum(Run& run, const Value& self, const Args& args);
Value items(Run& run, const Value& self, const Args& args);

}  // namespace fettle::jinja
