#include "server/http/routes.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "tests/server/http/http_fixture.h"

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

TEST(HttpRoutesTest, ARouteRefusesByTheHeadBeforeTheBodyComes) {
  HttpFixture fixture;
  RawClient client = fixture.Connect();
  const RawAnswer refused = client.Ask("POST /guarded HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(refused.code, 401);
  EXPECT_EQ(refused.body, "who is there?");
  EXPECT_EQ(refused.Header("Connection"), "close");
}

TEST(HttpRoutesTest, ARouteRefusesWhateverPiecesTheRequestComesIn) {
  HttpFixture fixture;
  const std::string_view stranger = "POST /guarded HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
  const std::string_view known =
      "POST /guarded HTTP/1.1\r\nX-Known: yes\r\nContent-Length: 2\r\n\r\nhi";
  EXPECT_EQ(fixture.Connect().Ask(stranger).code, 401);
  RawClient kept = fixture.Connect();  // each of its requests is asked
  for (size_t cut = 1; cut < known.size(); cut += 7) {
    kept.Send(known.substr(0, cut));
    absl::SleepFor(absl::Milliseconds(1));
    EXPECT_EQ(kept.Ask(known.substr(cut)).body, "hi") << cut;
  }
  EXPECT_EQ(kept.Ask(stranger).code, 401);
}

}  // namespace
}  // namespace mea::testing
