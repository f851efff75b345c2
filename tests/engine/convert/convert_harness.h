#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/convert/convert.h"
#include "tests/support/checkpoint_writer.h"

namespace mea::testing {

// Small random checkpoints with the demo models' tokenizer, and what conversions make of them.
class ConvertHarness {
 public:
  ConvertHarness();

  std::filesystem::path path(const std::string& name) const { return dir_.path() / name; }
  std::string text() const { return path("text").string(); }

  // A plain checkpoint in path("in"): MHA of 4 heads unless the spec says otherwise.
  static RandomCheckpointSpec PlainSpec();
  void WriteInput(const RandomCheckpointSpec& spec, uint64_t seed = 1) const;

  // Options of a quick conversion of path("in") into path("out").
  convert::ConvertOptions Options() const;

 private:
  TempDir dir_;
};

// Log probabilities of some tokens' successors, by the reference back end.
std::vector<float> Logprobs(const std::filesystem::path& checkpoint);
// The largest difference.
double MaxDifference(const std::vector<float>& a, const std::vector<float>& b);

// Names and contents of the files in a directory.
std::map<std::string, std::string> FilesIn(const std::filesystem::path& dir);

}  // namespace mea::testing
