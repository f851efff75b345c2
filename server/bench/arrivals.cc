#include "server/bench/arrivals.h"

#include "absl/strings/str_cat.h"

namespace mea {

absl::StatusOr<ArrivalKind> ParseArrivalKind(const std::string& name) {
  for (const ArrivalKind kind : {ArrivalKind::kInf, ArrivalKind::kPoisson, ArrivalKind::kGamma}) {
    if (name == ArrivalKindName(kind)) return kind;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--arrivals '", name, "' is none of inf, poisson, gamma"));
}

std::string ArrivalKindName(ArrivalKind kind) {
  switch (kind) {
    case ArrivalKind::kInf:
      return "inf";
    case ArrivalKind::kPoisson:
      return "poisson";
    case ArrivalKind::kGamma:
      return "gamma";
  }
  return "?";
}

Arrivals::Arrivals(const ArrivalOptions& options) : kind_(options.kind), random_(options.seed) {
  // Gaps between the events of a Poisson process are exponential: gamma of shape 1.
  const double shape = kind_ == ArrivalKind::kGamma ? options.burstiness : 1.0;
  gap_ = std::gamma_distribution<double>(shape, 1.0 / (options.rate * shape));
}

double Arrivals::Next() {
  if (kind_ != ArrivalKind::kInf) time_ += gap_(random_);
  return time_;
}

}  // namespace mea
