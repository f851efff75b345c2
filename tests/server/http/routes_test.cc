#include "server/http/routes.h"

#include <gtest/gtest.h>

namespace mea::testing {
namespace {

HttpRoutes Table() {
  return HttpRoutes({{"GET", "/models", {}},
                     {"GET", "/models/*", {}},
                     {"DELETE", "/models/*", {}},
                     {"POST", "/models/fixed", {}},
                     {"GET", "/models/deep/*", {}}});
}

std::string PathOf(const HttpRoutes::Match& match) {
  return match.route == nullptr ? "" : match.route->path;
}

TEST(HttpRoutesTest, ExactPathsArePreferredThenLongerOnes) {
  const HttpRoutes routes = Table();
  EXPECT_EQ(PathOf(routes.Find("GET", "/models")), "/models");
  EXPECT_EQ(PathOf(routes.Find("GET", "/models/a/b")), "/models/*");
  EXPECT_EQ(PathOf(routes.Find("GET", "/models/deep/a")), "/models/deep/*");
  EXPECT_EQ(PathOf(routes.Find("POST", "/models/fixed")), "/models/fixed");
}

TEST(HttpRoutesTest, StarStandsForAtLeastACharacter) {
  const HttpRoutes routes = Table();
  EXPECT_EQ(routes.Find("GET", "/models/").allow, "");
  EXPECT_EQ(routes.Find("GET", "/model").allow, "");
  EXPECT_EQ(routes.Find("GET", "/modelsx").allow, "");
}

TEST(HttpRoutesTest, WrongMethodIsToldWhichThereAre) {
  const HttpRoutes routes = Table();
  EXPECT_EQ(PathOf(routes.Find("PUT", "/models/a")), "");
  EXPECT_EQ(routes.Find("PUT", "/models/a").allow, "GET, DELETE, HEAD, OPTIONS");
  EXPECT_EQ(routes.Find("GET", "/models/fixed").allow, "POST, OPTIONS");
}

TEST(HttpRoutesTest, GetAnswersHead) {
  const HttpRoutes routes = Table();
  EXPECT_EQ(PathOf(routes.Find("HEAD", "/models")), "/models");
  EXPECT_EQ(PathOf(routes.Find("HEAD", "/models/fixed")), "");
}

}  // namespace
}  // namespace mea::testing
