// The same bytes are the same request, however the network cuts them.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/http/request_parser.h"

namespace mea::testing {
namespace {

constexpr int kMaxHeaderBytes = 400;
constexpr int64_t kMaxBodyBytes = 64;

struct Outcome {
  bool done = false;
  bool refused = false;
  std::string path, body;
  size_t num_headers = 0;
  size_t left = 0;  // bytes behind the request

  bool operator==(const Outcome&) const = default;
};

// `cut` says how long the next piece is, of those bytes that are left.
template <typename Cut>
Outcome ParseIn(std::string_view bytes, Cut cut) {
  RequestParser parser(kMaxHeaderBytes, kMaxBodyBytes);
  Outcome outcome;
  while (!bytes.empty() && !outcome.done && !outcome.refused) {
    std::string_view piece = bytes.substr(0, cut(bytes.size()));
    bytes.remove_prefix(piece.size());
    outcome.refused = !parser.Put(piece);
    if (outcome.refused) return outcome;
    outcome.done = parser.is_done();
    EXPECT_TRUE(outcome.done || piece.empty());
    outcome.left = piece.size() + bytes.size();
  }
  if (!outcome.done) return outcome;
  EXPECT_LE(std::ssize(parser.request().body), kMaxBodyBytes);
  outcome.path = parser.request().path;
  outcome.body = parser.request().body;
  outcome.num_headers = parser.request().headers.size();
  return outcome;
}

const std::vector<std::string>& Requests() {
  static const std::vector<std::string> requests = {
      "GET / HTTP/1.1\r\n\r\n",
      "\r\n\r\nGET /path?query HTTP/1.1\r\nHost: a\r\nB:\r\n\r\nGET /next HTTP/1.1\r\n\r\n",
      "POST / HTTP/1.0\r\nContent-Length: 12\r\nX: y\r\n\r\nhello, worldand more",
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;a=b\r\nTrailer: c\r\n\r\nrest",
      "POST / HTTP/1.1\r\nTransfer-Encoding: "
      "chunked\r\n\r\n5\r\nhello\r\n1;a=\"b\\\"c\"\r\n!\r\n000\r\n"
      "A: b\r\nC: d\r\n\r\n",
  };
  return requests;
}

TEST(RequestParserTest, EveryCutInTwoGivesTheSameRequest) {
  for (const std::string& request : Requests()) {
    SCOPED_TRACE(request);
    const Outcome whole = ParseIn(request, [](size_t left) { return left; });
    EXPECT_TRUE(whole.done);
    for (size_t first = 1; first < request.size(); ++first) {
      const Outcome cut =
          ParseIn(request, [&](size_t left) { return left == request.size() ? first : left; });
      EXPECT_TRUE(cut == whole) << first;
    }
    EXPECT_TRUE(ParseIn(request, [](size_t) { return 1; }) == whole);
  }
}

TEST(RequestParserTest, DamagedRequestsAreTakenAlikeHoweverTheyAreCut) {
  const int seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(static_cast<uint32_t>(seed));
  const auto draw = [&](size_t bound) {
    return std::uniform_int_distribution<size_t>(0, bound - 1)(random);
  };
  constexpr std::string_view kSpice = "\r\n\r\n 0;:,=\"Af1\t\xff";
  int num_done = 0;
  for (int i = 0; i < 30000; ++i) {
    std::string request = Requests()[draw(Requests().size())];
    for (size_t changes = draw(4); changes > 0; --changes) {
      const size_t at = draw(request.size());
      if (draw(2) == 0) {
        request[at] = kSpice[draw(kSpice.size())];
      } else if (draw(2) == 0) {
        request.erase(at, 1 + draw(3));
      } else {
        request.insert(at, request.substr(draw(request.size()), draw(40)));
      }
      if (request.empty()) request.push_back(' ');
    }
    const Outcome whole = ParseIn(request, [](size_t left) { return left; });
    const Outcome cut =
        ParseIn(request, [&](size_t left) { return 1 + draw(std::min<size_t>(left, 9)); });
    ASSERT_EQ(whole.done, cut.done) << request;
    if (!whole.done) continue;
    ASSERT_TRUE(whole == cut) << request;
    ++num_done;
  }
  EXPECT_GT(num_done, 5000);
}

TEST(RequestParserTest, WhatIsKeptOfAnUnfinishedRequestIsBounded) {
  for (const char* start : {"", "GET /", "GET / HTTP/1.1\r\nA: ",
                            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=",
                            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: "}) {
    const std::string request = start + std::string(2000, 'a');
    const Outcome outcome = ParseIn(request, [](size_t) { return 1; });
    EXPECT_TRUE(outcome.refused) << start;
    EXPECT_TRUE(ParseIn(request, [](size_t left) { return left; }).refused) << start;
  }
}

TEST(RequestParserTest, LongTrailersAndExtensionsAreRefusedHoweverTheyAreCut) {
  const std::string start = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
  int num_done = 0;
  for (size_t length = kMaxHeaderBytes - 20; length < kMaxHeaderBytes + 10; ++length) {
    const std::string filling(length, 'x');
    for (const std::string& end :
         {absl::StrCat("0\r\nT: ", filling, "\r\n\r\n"), absl::StrCat("0;", filling, "\r\n\r\n"),
          absl::StrCat("1;", filling, "\r\nb\r\n0\r\n\r\n")}) {
      const Outcome whole = ParseIn(start + end, [](size_t left) { return left; });
      EXPECT_EQ(whole.refused, ParseIn(start + end, [](size_t) { return 1; }).refused) << end;
      EXPECT_EQ(whole.refused, !whole.done);
      num_done += whole.done;
    }
  }
  EXPECT_GT(num_done, 0);
  EXPECT_LT(num_done, 3 * 30);
}

// Each chunk of one byte takes six.
TEST(RequestParserTest, ManySmallChunksAreRefusedHoweverTheyAreCut) {
  for (int extension = 1; extension < 40; ++extension) {
    std::string request = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < kMaxBodyBytes; ++i) {
      absl::StrAppend(&request, "1;", std::string(extension, 'x'), "\r\na\r\n");
    }
    request += "0\r\n\r\n";
    const Outcome whole = ParseIn(request, [](size_t left) { return left; });
    EXPECT_EQ(whole.refused, ParseIn(request, [](size_t) { return 1; }).refused) << extension;
    EXPECT_EQ(whole.done, extension < 17) << extension;  // 24 bytes a chunk
  }
}

}  // namespace
}  // namespace mea::testing
