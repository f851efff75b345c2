#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "mea/v1/inference.pb.h"
#include "server/cli/client_flags.h"
#include "server/cli/sampling_flags.h"
#include "server/client.h"

namespace mea {

// The flags of `mea generate`. What is not given is left to the server.
struct GenerateFlags {
  std::string server = kDefaultServer;
  ClientCredentials credentials;
  std::string prompt;
  std::string model;
  std::string request_id;
  bool stream = true;
  bool json = false;
  double timeout_s = 0;  // 0 = none
  int priority = 0;
  int n = 1;  // completions
  bool echo = false;

  SamplingFlags sampling;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> max_tokens, min_tokens, logprobs;
  std::vector<std::string> stop;
  std::vector<int> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop = false;

  void AddTo(CLI::App& command);
  v1::GenerateRequest ToRequest() const;
};

}  // namespace mea
