// TLS on all ports of a server, as gRPC and HTTP clients meet it.
#include <gmock/gmock.h>
#include <httplib.h>

#include <algorithm>
#include <thread>

#include "server/access/certificates.h"
#include "server/address.h"
#include "server/library_log.h"
#include "tests/server/access/test_certificates.h"
#include "tests/server/http/http_fixture.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;

// The files of a server and of its clients.
struct TlsWorld {
  explicit TlsWorld(const TestAuthority* clients = nullptr) {
    Write(authority.Sign());
    TlsFiles paths{files.Path("cert.pem"), files.Path("key.pem"), ""};
    if (clients != nullptr) paths.client_ca = files.Write("ca.pem", clients->cert());
    options.certificates = *Certificates::Load(paths);
    options.file_watch_period = absl::Milliseconds(5);
  }
  void Write(const TestCertificate& own) const {
    files.Write("key.pem", own.key);
    files.Write("cert.pem", own.cert);
  }

  const TestAuthority authority;
  const TestFiles files;
  ServerOptions options;
};

class TlsServer : public TlsWorld, public ServerFixture {
 public:
  explicit TlsServer(const TestAuthority* clients = nullptr, FakeEngineOptions engine_options = {})
      : TlsWorld(clients), ServerFixture(std::move(engine_options), false, options) {}

  std::unique_ptr<v1::Inference::Stub> Client(const TestAuthority& trusted,
                                              const TestCertificate& own = {}) const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return v1::Inference::NewStub(grpc::CreateCustomChannel(
        server->listen_address(), grpc::SslCredentials({trusted.cert(), own.key, own.cert}),
        arguments));
  }
  // OK where the client comes in.
  grpc::Status Ask(const TestAuthority& trusted, const TestCertificate& own = {}) const {
    v1::TokenizeRequest request;
    request.set_text("hello");
    v1::TokenizeResponse response;
    return Client(trusted, own)->Tokenize(Context().get(), request, &response);
  }
  bool HttpHealth(const std::string& of, const TestAuthority& trusted) const {
    const Address address = *ParseAddress(of);
    httplib::SSLClient client(address.host, address.port);
    client.set_ca_cert_path(files.Write("trusted.pem", trusted.cert()).c_str());
    const httplib::Result result = client.Get("/health");
    return result && result->status == 200;
  }
};

TEST(TlsTest, TheReadyLineGivesAddressesThatWork) {
  TlsServer f;
  EXPECT_THAT(f.server->ready_line(),
              ::testing::HasSubstr("OpenAI API https://" + f.server->http_address() + "/v1"));
}

TEST(TlsTest, AllPortsSpeakItAndNothingElse) {
  const TlsServer server;
  EXPECT_TRUE(server.Ask(server.authority).ok());
  EXPECT_TRUE(server.HttpHealth(server.server->admin_address(), server.authority));
  EXPECT_TRUE(server.HttpHealth(server.server->http_address(), server.authority));
  EXPECT_EQ(server.Try(TextRequest("hello", 2)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(TlsTest, AClientThatDoesNotTrustTheServerSendsNothing) {
  const TlsServer server;
  EXPECT_THAT(server.Ask(TestAuthority()).error_message(), HasSubstr("andshake"));
  server.Write(server.authority.Sign({.name = "another.example"}));
  server.AwaitLog("certificate taken");
  EXPECT_FALSE(server.Ask(server.authority).ok()) << "of another host";
}

TEST(TlsTest, AFailedHandshakeIsALineAtMostAndNoWarning) {
  LibraryLog::Silence();
  TlsServer server;
  for (int i = 0; i < 3; ++i) {
    RawClient client(server.server->listen_address());
    ASSERT_TRUE(client.Send("GET / HTTP/1.1\r\n\r\n"));
    client.ReadUntil("what nobody says");  // to the end
  }
  int lines = 0;
  for (const std::string& line : server.StopAndReadLog()) {
    if (line.find(" debug ") != line.npos || line.find("library=") == line.npos) continue;
    EXPECT_THAT(line, HasSubstr(" info library library=grpc message=\"Handshake failed"));
    ++lines;
  }
  EXPECT_LE(lines, 3);
  EXPECT_GT(lines, 0);
}

TEST(TlsTest, OnlyClientsOfTheAuthorityComeIn) {
  const TestAuthority clients;
  const TlsServer server(&clients);
  const auto ask = [&](const TestCertificate& own) {
    return server.Ask(server.authority, own).ok();
  };
  EXPECT_FALSE(ask({}));
  EXPECT_TRUE(ask(clients.Sign({.name = "alice", .client = true})));
  EXPECT_FALSE(ask(clients.Sign({.name = "bob", .client = true, .ends_s = -60})));
  EXPECT_FALSE(ask(TestAuthority().Sign({.name = "alice", .client = true})));
  EXPECT_FALSE(server.HttpHealth(server.server->http_address(), server.authority));
}

TEST(TlsTest, ANewCertificateIsTakenAndEndsNoStream) {
  TlsServer server(nullptr, {.automatic = false});
  const auto client = server.Client(server.authority);
  const auto context = server.Context();
  server.engine.SetAnswer("abc");
  const auto stream = client->GenerateStream(context.get(), TextRequest("hello"));
  ASSERT_TRUE(server.engine.AwaitInFlight(1));
  server.engine.Step();
  v1::GenerateStreamResponse first;
  ASSERT_TRUE(stream->Read(&first));

  const TestAuthority next;
  server.Write(next.Sign());
  server.AwaitLog("certificate taken not_after=");
  EXPECT_FALSE(server.Ask(server.authority).ok());
  EXPECT_TRUE(server.Ask(next).ok());
  EXPECT_TRUE(server.HttpHealth(server.server->http_address(), next));
  server.engine.Step(4);
  const StreamResult rest = ReadAll(*stream);
  EXPECT_TRUE(rest.status.ok()) << rest.status.error_message();
}

TEST(TlsTest, ABrokenFileIsLoggedAndWhatWasGoesOn) {
  const TlsServer server;
  server.files.Write("cert.pem", "no certificate");
  server.AwaitLog("certificate not taken");
  EXPECT_TRUE(server.Ask(server.authority).ok());
  EXPECT_TRUE(server.HttpHealth(server.server->http_address(), server.authority));
}

}  // namespace
}  // namespace mea::testing
