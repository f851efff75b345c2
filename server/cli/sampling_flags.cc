#include "server/cli/sampling_flags.h"

namespace mea {

void SamplingFlags::AddTo(CLI::App& command) {
  command.add_option("--temperature", temperature, "0..2; 0 takes the most likely token")
      ->group(kSamplingGroup);
  command.add_option("--top-k", top_k, "Keep the k most likely tokens; 0 keeps all")
      ->group(kSamplingGroup);
  command.add_option("--top-p", top_p, "Keep the most likely tokens up to this probability")
      ->group(kSamplingGroup);
  command.add_option("--min-p", min_p, "Drop tokens this much less likely than the first")
      ->group(kSamplingGroup);
  command.add_option("--seed", seed, "The same seed gives the same tokens")->group(kSamplingGroup);
}

void SamplingFlags::Set(v1::SamplingParams& sampling) const {
  if (temperature) sampling.set_temperature(*temperature);
  if (top_k) sampling.set_top_k(*top_k);
  if (top_p) sampling.set_top_p(*top_p);
  if (min_p) sampling.set_min_p(*min_p);
  if (seed) sampling.set_seed(*seed);
}

}  // namespace mea
