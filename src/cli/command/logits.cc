// logits: what the model computes for a list of ids, as a .npy file, a door for comparisons with other implementations.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, ids, activations, adapter;
};

constexpr int kChunk = 256;  // rows of logits that exist at once

// NumPy format 1.0: magic, version, header length, a Python dictionary padded so that the data begins at a multiple of 64.
std::string npy_header(size_t rows, size_t columns) {
  std::string header =
      "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " + std::to_string(columns) + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string start("\x93NUMPY\x01\x00", 8);
  start += char(header.size() & 0xFF);
  start += char(header.size() >> 8);
  return start + header;
}

void write_logits(Model& model, const std::vector<int>& ids, Precision precision, int threads, const fs::path& path) {
  static_assert(std::endian::native == std::endian::little);
  AtomicFile file(path);
  file.write(npy_header(ids.size(), size_t(model.config.vocabulary)));
  Pool pool(threads);
  Arena arena;
  KvCache cache(model.kv_shape(), KvCache::usual_element(precision), 1, int64_t(ids.size()));
  CHECK(cache.reserve(0, int(ids.size())));
  Run run{arena, pool, &cache, nullptr, nullptr, precision};
  run.longest = int(ids.size());
  Progress progress("logits", int64_t(ids.size()), "tokens");
  for (size_t at = 0; at < ids.size(); at += kChunk) {
    stop_if_interrupted();
    Batch batch;
    batch.add(0, int(at), std::span(ids).subspan(at, std::min<size_t>(kChunk, ids.size() - at)), true, true);
    Var* logits = model.logits(run, batch);
    if (!std::all_of(logits->data, logits->data + logits->count(), [](float v) { return std::isfinite(v); })) throw model.why_not_finite();
    file.write(std::as_bytes(std::span(logits->data, size_t(logits->count()))));
    arena.reset();
    progress.update(int64_t(at) + batch.rows());
  }
  file.commit();
  progress.finish();
}

// An older .npy is replaced, as scripts expect; anything else that is there is not.
void refuse_other_file(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  if (!fs::is_regular_file(path, ignored) || !MappedFile(path).text().starts_with("\x93NUMPY"))
    throw usage(path.string() + " exists and is no .npy file", "--out names another place");
}

Json logits(const Arguments& a, const Common& common) {
  if (common.out.empty()) throw usage("fettle logits needs --out FILE.npy");
  refuse_other_file(common.out);
  auto model = open_model(a.model, common.stage);
  std::vector<int> ids = ids_of(read_json(a.ids), model->config.vocabulary, a.ids);
  if (ids.empty()) throw refused(a.ids, "holds no ids");
  if (!a.adapter.empty()) model->attach_lora(read_adapter(a.adapter, *model), a.adapter);
  write_logits(*model, ids, activation_precision(a.activations), common.stage.threads, common.out);
  return {{"out", common.out}, {"tokens", ids.size()}, {"vocabulary", model->config.vocabulary}, {"activations", a.activations}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("--ids", a->ids, "JSON file: an array of token ids; -: standard input").require().called("FILE");
  add_activations(o, a->activations);
  o.add("--adapter", a->adapter, "an adapter that is applied beside the model: a GGUF adapter or a PEFT folder").called("FILE");
  o.add("--out,-o", common.out, "the .npy file: f32, (tokens, vocabulary)").names = "-o,--out";
  return [a, &common] { return logits(*a, common); };
}

void print(const Json& d) {
  std::printf("%s: f32 (%s, %s)\n", d["out"].get<std::string>().c_str(), d["tokens"].dump().c_str(), d["vocabulary"].dump().c_str());
}

}  // namespace

const Command command_logits = {"logits",
                                "Files",
                                "the logits of a list of ids, as a NumPy file",
                                "fettle logits model.gguf --ids ids.json --out logits.npy\n"
                                "fettle logits model.gguf --ids ids.json --out logits.npy --activations f32",
                                setup,
                                print};

}  // namespace fettle
