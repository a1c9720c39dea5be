// What fit takes beside training. Rates are relative to a training step's on the same machine, as measured on SmolLM2 with 2 cores:
// calibrating runs forward in bf16 and sums products of inputs; choosing codes updates, for each weight, those of the columns to come, so
// that it grows with the width; healing runs the teacher too; the base, the tuned (F16) and the compressed model answer the held-out rows.
#include "pipeline/stage.h"

namespace fettle {

FitSeconds seconds_beside_training(const TrainEstimate& training, const Config& config, const FitWork& work) {
  constexpr double kCalibrate = 1.0, kQuantizePerWidth = 20, kHeal = 2.2, kEvaluate = 0.75;
  const double per_token = training.seconds / std::max<double>(1, double(training.tokens));
  return {per_token * (kCalibrate * work.calibrated + kQuantizePerWidth * config.d_model), per_token * kHeal * work.healed,
          per_token * kEvaluate * work.held_out};
}

}  // namespace fettle
