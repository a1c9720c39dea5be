// The recipe that grows with a model: enough to make it again, and to know what made it. Digests identify inputs; the command replays it.
#include "pipeline/pipeline.h"
#include "simd/isa.h"

namespace fettle {

Json new_recipe(const std::string& stage, const StageContext& context) {
  return {{"stage", stage},
          {"fettle", FETTLE_VERSION},
          {"command", context.command},
          {"seed", context.seed},
          {"threads", context.threads > 0 ? context.threads : physical_cores()},
          {"isa", isa_name(current_isa())},
          {"started", context.started}};
}

}  // namespace fettle
