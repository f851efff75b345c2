#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "absl/status/statusor.h"

namespace mea {

enum class ArrivalKind : uint8_t {
  kInf,      // as soon as a stream is free: the load is closed
  kPoisson,  // independent of each other
  kGamma,    // in bursts, or evenly
};

struct ArrivalOptions {
  ArrivalKind kind = ArrivalKind::kInf;
  double rate = 1;  // requests per second, unless kInf
  // Shape of kGamma: 1 is kPoisson, below 1 comes in bursts, above 1 evenly. The coefficient of
  // variation of the gaps is 1 / sqrt(burstiness).
  double burstiness = 1;
  uint64_t seed = 1;
};

// "inf", "poisson", "gamma".
absl::StatusOr<ArrivalKind> ParseArrivalKind(const std::string& name);
std::string ArrivalKindName(ArrivalKind kind);

// When requests are due. The same options give the same times.
class Arrivals {
 public:
  explicit Arrivals(const ArrivalOptions& options);
  // Seconds from the start of the measurement to the next request; never falls.
  double Next();

 private:
  const ArrivalKind kind_;
  std::mt19937_64 random_;
  std::gamma_distribution<double> gap_;
  double time_ = 0;
};

}  // namespace mea
