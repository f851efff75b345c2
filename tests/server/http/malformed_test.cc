// What is no request that all parsers understand alike is refused, and nothing else happens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "tests/server/http/http_fixture.h"

namespace mea::testing {
namespace {

using ::testing::StartsWith;

struct Malformed {
  const char* what;
  std::string request;
  int code = 400;
};

std::vector<Malformed> MalformedRequests() {
  const std::string post = "POST /echo HTTP/1.1\r\n";
  const std::string chunked = post + "Transfer-Encoding: chunked\r\n\r\n";
  return {
      {"no method", " / HTTP/1.1\r\n\r\n"},
      {"no target", "GET  HTTP/1.1\r\n\r\n"},
      {"no version", "GET /hello\r\n\r\n"},
      {"another protocol", "GET /hello SPDY/1.1\r\n\r\n"},
      {"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
      {"HTTP/1.2", "GET /hello HTTP/1.2\r\n\r\n"},
      {"a TLS handshake", std::string("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 15)},
      {"a control character in the target", "GET /he\x01llo HTTP/1.1\r\n\r\n"},
      {"a target that is no path", "GET hello HTTP/1.1\r\n\r\n"},
      {"a method with a control character", "G\x01T /hello HTTP/1.1\r\n\r\n"},
      {"bare line feeds", "GET /hello HTTP/1.1\nHost: a\n\n\r\n\r\n"},
      {"a bare carriage return", "GET /hello HTTP/1.1\r\nA: b\rc\r\n\r\n"},
      {"a header without a colon", "GET /hello HTTP/1.1\r\nnonsense\r\n\r\n"},
      {"a header without a name", "GET /hello HTTP/1.1\r\n: value\r\n\r\n"},
      {"a blank before the colon", "GET /hello HTTP/1.1\r\nName : value\r\n\r\n"},
      {"a blank in a name", "GET /hello HTTP/1.1\r\nMy Name: value\r\n\r\n"},
      {"a NUL in a value", std::string("GET /hello HTTP/1.1\r\nA: b\0c\r\n\r\n", 32)},
      {"two hosts", "GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
      {"two keys", "GET /hello HTTP/1.1\r\nAuthorization: a\r\nauthorization: b\r\n\r\n"},
      {"length and chunks",
       post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"chunks and length",
       post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
      {"two lengths", post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"},
      {"the same length twice", post + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"},
      {"a list of lengths", post + "Content-Length: 2, 2\r\n\r\nab"},
      {"a negative length", post + "Content-Length: -2\r\n\r\nab"},
      {"a signed length", post + "Content-Length: +2\r\n\r\nab"},
      {"a hexadecimal length", post + "Content-Length: 0x2\r\n\r\nab"},
      {"no length", post + "Content-Length:\r\n\r\nab"},
      {"a length beyond 64 bits", post + "Content-Length: 99999999999999999999\r\n\r\n"},
      {"chunks twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"chunks in HTTP/1.0", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"another encoding", post + "Transfer-Encoding: gzip\r\n\r\n", 501},
      {"another encoding before chunks", post + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"an encoding that looks like chunks", post + "Transfer-Encoding: xchunked\r\n\r\n", 501},
      {"a chunk without a size", chunked + "\r\nabc\r\n0\r\n\r\n"},
      {"a chunk of no number", chunked + "xyz\r\nabc\r\n0\r\n\r\n"},
      {"a negative chunk", chunked + "-1\r\nabc\r\n0\r\n\r\n"},
      {"a chunk beyond 64 bits", chunked + "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"},
      {"a chunk that is longer than it says", chunked + "2\r\nabc\r\n0\r\n\r\n"},
      {"a bare line feed after a size", chunked + "3\nabc\r\n0\r\n\r\n\r\n"},
      {"a length behind the chunks", chunked + "1\r\na\r\n0\r\nContent-Length: 1\r\n\r\n"},
      {"a malformed list of options", "GET /hello HTTP/1.1\r\nConnection: \"\r\n\r\n"},
  };
}

TEST(HttpMalformedTest, EachIsRefusedOnceAndTheConnectionClosed) {
  HttpFixture f;
  for (const Malformed& bad : MalformedRequests()) {
    SCOPED_TRACE(bad.what);
    RawClient client = f.Connect();
    const RawAnswer answer = client.Ask(bad.request);
    EXPECT_EQ(answer.code, bad.code) << answer.head;
    EXPECT_TRUE(answer.whole);
    EXPECT_EQ(answer.Header("Connection"), "close");
    client.HalfClose();
    EXPECT_TRUE(client.AtEnd());
  }
  EXPECT_EQ(f.Connect().Ask(kGetHello).body, "hello");
}

TEST(HttpMalformedTest, EachIsRefusedAlikeWhenItsBytesComeOneByOne) {
  HttpFixture f;
  for (const Malformed& bad : MalformedRequests()) {
    SCOPED_TRACE(bad.what);
    RawClient client = f.Connect();
    for (const char c : bad.request) {
      if (!client.Send({&c, 1})) break;  // refused before its end
    }
    EXPECT_EQ(client.Read().code, bad.code);
  }
}

// Requests with bytes changed, left out and doubled at random: each connection gets an answer or is
// closed, and the server serves the next.
TEST(HttpMalformedTest, DamagedRequestsHurtNobody) {
  HttpFixture f({.max_body_bytes = 4096});
  const uint32_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  std::mt19937 random(seed);
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  const auto draw = [&](size_t bound) {
    return std::uniform_int_distribution<size_t>(0, bound - 1)(random);
  };
  const std::vector<std::string> good = {
      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
      "POST /echo HTTP/1.1\r\nTransfer-Encoding: "
      "chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n1\r\n!\r\n0\r\n"
      "A: b\r\n\r\n",
      "GET /below/x?y HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nA: b\r\n  folded\r\n\r\n",
  };
  constexpr std::string_view kSpice = "\r\n\r\n 0;:,=\"Af\t\xff";
  for (int i = 0; i < 1500; ++i) {
    std::string request = good[draw(good.size())];
    for (size_t changes = 1 + draw(4); changes > 0; --changes) {
      const size_t at = draw(request.size());
      switch (draw(4)) {
        case 0:
          request[at] = kSpice[draw(kSpice.size())];
          break;
        case 1:
          request.erase(at, 1 + draw(6));
          break;
        case 2:
          request.insert(at, request.substr(draw(request.size()), draw(12)));
          break;
        default:
          request.insert(at, 1, kSpice[draw(kSpice.size())]);
      }
      if (request.empty()) request = "\r\n";
    }
    RawClient client = f.Connect();
    std::string_view rest = request;
    while (!rest.empty()) {
      const size_t piece = std::min(rest.size(), 1 + draw(rest.size()));
      if (!client.Send(rest.substr(0, piece))) break;
      rest.remove_prefix(piece);
    }
    client.HalfClose();
    const std::string answer = client.ReadUntil("\r\n\r\n");
    if (answer.empty()) continue;
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 ")) << request;
  }
  EXPECT_EQ(f.Connect().Ask(kGetHello).body, "hello");
}

}  // namespace
}  // namespace mea::testing
