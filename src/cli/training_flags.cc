#include "cli/training_flags.h"

#include <charconv>

#include "cli/table.h"

namespace fettle {

void parse_pack(const std::string& text, TrainOptions& train) {
  const char *at = text.data(), *end = at + text.size();
  auto rows = std::from_chars(at, end, train.pack_rows);
  bool good = rows.ec == std::errc() && rows.ptr != end && (*rows.ptr == 'x' || *rows.ptr == 'X');
  if (good) {
    auto tokens = std::from_chars(rows.ptr + 1, end, train.pack_tokens);
    good = tokens.ec == std::errc() && tokens.ptr == end && train.pack_rows > 0 && train.pack_tokens > 1;
  }
  if (!good) throw usage("--pack: '" + text + "' is not windows x tokens", "write 4x512");
}

void add_held_out(Options& o, std::string& source) {
  o.add("--held-out", source, number("examples to measure on (default: %.0f %% of DATA)", 100 * kHeldOutShare)).called("DATA");
}

void add_training(Options& o, TrainOptions& t, bool full) {
  if (full)  // fit merges and compresses what it trained, which is lora's
    o.add("--method", t.method,
          "lora trains small matrices beside frozen weights, full all weights, scales those of a quantized model's blocks")
        .one_of({"lora", "full", "scales"})
        .called("HOW");
  o.add("--rank", t.rank, "columns of the adapter's matrices");
  o.add("--alpha", t.alpha, "the adapter is scaled by alpha / rank");
  o.add("--lr", t.lr, "learning rate at its highest (default: what suits the model's width)").value.clear();
  o.add("--epochs", t.epochs, "times over the data");
  o.add("--batch", t.batch, "rows of one step");
  o.add("--max-tokens", t.max_tokens, "longer rows are cut, and counted");
  o.add("--patience", t.patience, "stop after this many evaluations without improvement; 0: never");
  if (!full) return;
  o.add("--max-steps", t.max_steps, "most steps; 0: no limit");
  o.add("--targets", t.targets,
        "train only weights whose name holds this part: attn_q (may be given several times; default: all linear layers)");
  o.add("--schedule", t.schedule, "how the learning rate goes on").one_of({"cosine", "linear", "constant"}).called("HOW");
  o.add("--warmup", t.warmup, "steps until the learning rate is reached; below 1: a share of all");
  o.add("--weight-decay", t.weight_decay, "AdamW's");
  o.add("--clip", t.clip, "longest gradient; 0: any");
  o.add("--accumulate", t.accumulate, "parts that a step's rows are run in, to save memory");
  o.custom("--pack", "WxT", "join rows and cut them into W windows of T tokens a step, in place of --batch: 4x512",
           [&t](const std::string& text) { parse_pack(text, t); });
  o.add("--shuffle", t.shuffle, "new order each epoch, or the file's").one_of({"epoch", "none"}).called("HOW");
  o.custom("--dtype", "TYPE", "precision of products",
           [&t](const std::string& text) { t.precision = text == "f32" ? Precision::exact : Precision::mixed; })
      .one_of({"bf16", "f32"})
      .value = "bf16";
  o.add("--eval-every", t.eval_every, "steps between measurements on held-out rows; 0: each epoch");
  o.add("--checkpoint-every", t.checkpoint_every, "steps between checkpoints");
}

void check_training(const TrainOptions& t) {
  if (t.rank < 1) throw usage("--rank: at least 1");
  if (!(t.lr >= 0)) throw usage("--lr: not below 0");
  if (!(t.epochs > 0)) throw usage("--epochs: above 0");
  if (t.batch < 1) throw usage("--batch: at least 1");
  if (t.accumulate < 1) throw usage("--accumulate: at least 1");
  if (t.max_tokens < 2) throw usage("--max-tokens: at least 2");
  if (t.warmup < 0) throw usage("--warmup: not below 0");
  if (t.checkpoint_every < 1) throw usage("--checkpoint-every: at least 1");
}

}  // namespace fettle
