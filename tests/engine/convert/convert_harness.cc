#include "tests/engine/convert/convert_harness.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/engine_core.h"
#include "engine/load.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {

namespace fs = std::filesystem;

ConvertHarness::ConvertHarness() {
  std::string sample = ReadText(MEA_SOURCE_DIR "/models/eval/heldout.txt");
  sample.resize(3000);
  WriteText(text(), sample);
}

RandomCheckpointSpec ConvertHarness::PlainSpec() {
  RandomCheckpointSpec spec;
  spec.kv_heads = 4;
  spec.vocab_size = 1009;
  spec.max_position = 128;
  return spec;
}

void ConvertHarness::WriteInput(const RandomCheckpointSpec& spec, uint64_t seed) const {
  WriteRandomCheckpoint(path("in"), spec, seed);
  fs::copy_file(MEA_SOURCE_DIR "/models/demo-mha/tokenizer.json", path("in") / "tokenizer.json",
                fs::copy_options::overwrite_existing);
}

convert::ConvertOptions ConvertHarness::Options() const {
  return {.in = path("in"),
          .out = path("out"),
          .calibration = text(),
          .calibration_tokens = 400,
          .measure_tokens = 100,
          .held_out_tokens = 100,
          .accept_loss = std::numeric_limits<double>::infinity(),
          .heal = false,
          .num_threads = 2};
}

std::vector<float> Logprobs(const fs::path& dir) {
  const Checkpoint checkpoint = OpenCheckpoint(dir).value();
  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  const auto model = LoadModel(checkpoint, "f32", backend.get(), {.max_batch_tokens = 32}).value();
  const auto kv = KvCache::Create(*backend, model->MakeKvLayout(DType::kF64, 16), 4).value();
  EngineCore core(model.get(), kv.get(), 1, {});
  Request request = RandomRequest(/*seed=*/7, /*prompt_length=*/24, /*max_tokens=*/1,
                                  checkpoint.config.vocab_size);
  request.prompt_logprobs = true;
  const auto sink = std::make_shared<RecordingSink>();
  core.Add(std::move(request), sink);
  while (core.has_work()) {
    core.RunStep(absl::InfinitePast());
    core.Deliver();
  }
  return sink->prompt_logprobs;
}

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() && !a.empty() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    most = std::max(most, std::abs(double{a[i]} - b[i]));
  }
  return most;
}

std::map<std::string, std::string> FilesIn(const fs::path& dir) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(dir)) {
    files[entry.path().filename().string()] = ReadText(entry.path());
  }
  return files;
}

}  // namespace mea::testing
