#include "server/bench/arrivals.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace mea {
namespace {

struct Moments {
  double mean = 0;
  double variation = 0;  // standard deviation / mean
};

Moments MomentsOfGaps(const ArrivalOptions& options, int count) {
  Arrivals arrivals(options);
  double sum = 0, sum_of_squares = 0, before = 0;
  for (int i = 0; i < count; ++i) {
    const double gap = arrivals.Next() - before;
    EXPECT_GE(gap, 0);
    before += gap;
    sum += gap;
    sum_of_squares += gap * gap;
  }
  const double mean = sum / count;
  return {mean, std::sqrt(sum_of_squares / count - mean * mean) / mean};
}

TEST(ArrivalsTest, GapsHaveTheRateAndTheBurstinessThatWereAskedFor) {
  constexpr int kCount = 100'000;
  for (const double rate : {0.5, 20.0}) {
    const ArrivalOptions poisson{.kind = ArrivalKind::kPoisson, .rate = rate, .seed = 3};
    EXPECT_NEAR(MomentsOfGaps(poisson, kCount).mean * rate, 1, 0.02);
    EXPECT_NEAR(MomentsOfGaps(poisson, kCount).variation, 1, 0.02);
    for (const double burstiness : {0.25, 4.0}) {
      ArrivalOptions gamma{.kind = ArrivalKind::kGamma, .rate = rate, .seed = 3};
      gamma.burstiness = burstiness;
      const Moments moments = MomentsOfGaps(gamma, kCount);
      EXPECT_NEAR(moments.mean * rate, 1, 0.03) << burstiness;
      EXPECT_NEAR(moments.variation * std::sqrt(burstiness), 1, 0.03) << burstiness;
    }
  }
}

TEST(ArrivalsTest, SeedDecides) {
  ArrivalOptions options{.kind = ArrivalKind::kPoisson, .rate = 10, .seed = 1};
  Arrivals one(options), same(options);
  options.seed = 2;
  Arrivals other(options);
  for (int i = 0; i < 10; ++i) {
    const double time = one.Next();
    EXPECT_EQ(time, same.Next());
    EXPECT_NE(time, other.Next());
  }
}

TEST(ArrivalsTest, InfIsAllAtOnce) {
  Arrivals arrivals({.kind = ArrivalKind::kInf});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(arrivals.Next(), 0);
}

TEST(ArrivalsTest, NamesAreThoseOfTheFlag) {
  for (const auto kind : {ArrivalKind::kInf, ArrivalKind::kPoisson, ArrivalKind::kGamma}) {
    EXPECT_EQ(*ParseArrivalKind(ArrivalKindName(kind)), kind);
  }
  EXPECT_EQ(ParseArrivalKind("often").status().message(),
            "--arrivals 'often' is none of inf, poisson, gamma");
}

}  // namespace
}  // namespace mea
