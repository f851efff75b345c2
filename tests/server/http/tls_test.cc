#include <gtest/gtest.h>
#include <httplib.h>
#include <openssl/ssl.h>

#include <atomic>
#include <thread>

#include "server/access/certificates.h"
#include "server/address.h"
#include "tests/server/access/test_certificates.h"
#include "tests/server/http/http_fixture.h"

namespace mea::testing {
namespace {

// A server with TLS and what it is made of. `clients` signs those who may come in; null: anybody.
class TlsFixture {
 public:
  explicit TlsFixture(HttpOptions options = {}, const TestAuthority* clients = nullptr)
      : http([&] {
          Write(authority.Sign());
          TlsFiles paths{files.Path("cert.pem"), files.Path("key.pem"), ""};
          if (clients != nullptr) paths.client_ca = files.Write("ca.pem", clients->cert());
          certificates = *Certificates::Load(paths);
          options.certificates = certificates;
          return std::move(options);
        }()) {}

  void Write(const TestCertificate& own) const {
    files.Write("cert.pem", own.cert);
    files.Write("key.pem", own.key);
  }

  // A client that trusts `trusted` and shows `own` where there is one.
  std::unique_ptr<httplib::SSLClient> Client(const TestAuthority& trusted,
                                             const TestCertificate* own = nullptr) const {
    const Address address = *ParseAddress(http.server->address());
    auto client = std::make_unique<httplib::SSLClient>(
        address.host, address.port, own ? files.Write("client.pem", own->cert) : "",
        own ? files.Write("client_key.pem", own->key) : "");
    client->set_ca_cert_path(files.Write("trusted.pem", trusted.cert()).c_str());
    client->set_read_timeout(20);
    return client;
  }
  std::unique_ptr<httplib::SSLClient> Client() const { return Client(authority); }

  const TestAuthority authority;
  const TestFiles files;
  std::shared_ptr<Certificates> certificates;
  HttpFixture http;
};

// The body of GET /hello; empty where it cannot be had.
std::string Hello(httplib::SSLClient& client) {
  const httplib::Result result = client.Get("/hello");
  return result && result->status == 200 ? result->body : "";
}

TEST(HttpTlsTest, RequestsAreAnsweredOnAKeptConnection) {
  const TlsFixture fixture;
  const auto client = fixture.Client();
  client->set_keep_alive(true);
  EXPECT_EQ(Hello(*client), "hello");
  const std::string body(1 << 20, 'x');  // of many records
  const httplib::Result echoed = client->Post("/echo", body, "text/plain");
  ASSERT_TRUE(echoed);
  EXPECT_EQ(echoed->body, body);
}

TEST(HttpTlsTest, AStreamIsWhole) {
  TlsFixture fixture;
  std::thread server([&] {
    const auto call = fixture.http.AwaitCall();
    call->exchange->Begin({.content_type = "text/event-stream"});
    for (int i = 0; i < 100; ++i) {
      call->exchange->Write("piece ");
      EXPECT_TRUE(call->AwaitWritten(i + 1));
    }
    call->exchange->End();
  });
  const auto client = fixture.Client();
  const httplib::Result result = client->Get("/call");
  server.join();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->body.size(), 600u);
}

TEST(HttpTlsTest, AClientThatDoesNotTrustTheServerSendsNothing) {
  const TlsFixture fixture;
  EXPECT_EQ(Hello(*fixture.Client(TestAuthority())), "");
  fixture.Write(fixture.authority.Sign({.name = "another.example"}));
  EXPECT_TRUE(*fixture.certificates->Refresh());
  EXPECT_EQ(Hello(*fixture.Client()), "") << "of another host";
}

TEST(HttpTlsTest, PlainHttpIsNotAnswered) {
  TlsFixture fixture;
  RawClient client = fixture.http.Connect();
  client.Send(kGetHello);
  EXPECT_EQ(client.ReadUntil("hello").find("hello"), std::string::npos);
}

TEST(HttpTlsTest, SilentAndSlowClientsEndWithTheirTimeAndHoldNobodyUp) {
  TlsFixture fixture({.header_timeout = absl::Milliseconds(300)});
  RawClient silent = fixture.http.Connect();
  RawClient slow = fixture.http.Connect();
  slow.Send(std::string_view("\x16\x03\x01\x02", 4));  // a handshake begins
  EXPECT_EQ(Hello(*fixture.Client()), "hello");
  EXPECT_TRUE(silent.AtEnd());
  EXPECT_TRUE(slow.AtEnd());
}

TEST(HttpTlsTest, AClientThatStillSendsSeesWhyItIsRefused) {
  TlsFixture fixture({.max_body_bytes = 1000});
  const auto client = fixture.Client();
  const httplib::Result result = client->Post("/echo", std::string(4 << 20, 'x'), "text/plain");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 413);
}

TEST(HttpTlsTest, TheEndOfAStreamWithoutLengthIsSaid) {
  TlsFixture fixture;
  std::thread server([&] {
    const auto call = fixture.http.AwaitCall();
    call->exchange->Begin({});
    call->exchange->Write("all of it");
    call->exchange->End();
  });
  const Address address = *ParseAddress(fixture.http.server->address());
  const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context(SSL_CTX_new(TLS_client_method()),
                                                             SSL_CTX_free);
  const std::unique_ptr<BIO, void (*)(BIO*)> connection(BIO_new_ssl_connect(context.get()),
                                                        BIO_free_all);
  BIO_set_conn_hostname(connection.get(), fixture.http.server->address().c_str());
  constexpr char kOldRequest[] = "GET /call HTTP/1.0\r\n\r\n";
  ASSERT_GT(BIO_write(connection.get(), kOldRequest, sizeof(kOldRequest) - 1), 0);
  std::string answer;
  char buffer[1024];
  for (int n; (n = BIO_read(connection.get(), buffer, sizeof(buffer))) > 0;) {
    answer.append(buffer, static_cast<size_t>(n));
  }
  server.join();
  SSL* ssl = nullptr;
  BIO_get_ssl(connection.get(), &ssl);
  EXPECT_TRUE(answer.ends_with("all of it")) << answer;
  EXPECT_NE(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN, 0);
}

TEST(HttpTlsTest, ClientsThatOfferProtocolsMustOfferHttp1) {
  const TlsFixture fixture;
  const auto offer = [&](const std::string& protocols) {
    const auto client = fixture.Client();
    SSL_CTX_set_alpn_protos(client->ssl_context(),
                            reinterpret_cast<const unsigned char*>(protocols.data()),
                            static_cast<unsigned>(protocols.size()));
    return Hello(*client);
  };
  EXPECT_EQ(offer("\x02h2\x08http/1.1"), "hello");
  EXPECT_EQ(offer("\x02h2"), "");
}

TEST(HttpTlsTest, OnlyClientsOfTheAuthorityComeIn) {
  const TestAuthority clients;
  const TlsFixture fixture({}, &clients);
  const auto hello = [&](const TestCertificate* own) {
    return Hello(*fixture.Client(fixture.authority, own));
  };
  EXPECT_EQ(hello(nullptr), "");
  const TestCertificate good = clients.Sign({.name = "alice", .client = true});
  EXPECT_EQ(hello(&good), "hello");
  const TestCertificate expired = clients.Sign({.name = "bob", .client = true, .ends_s = -60});
  EXPECT_EQ(hello(&expired), "");
  const TestCertificate strange = TestAuthority().Sign({.name = "alice", .client = true});
  EXPECT_EQ(hello(&strange), "");
  const TestCertificate server = clients.Sign({.name = "alice"});
  EXPECT_EQ(hello(&server), "") << "a server's certificate shows no client";
}

TEST(HttpTlsTest, ANewCertificateIsForNewConnectionsAndEndsNothing) {
  TlsFixture fixture;
  const TestAuthority next;
  std::atomic<bool> begun = false;
  std::string received;
  std::thread before([&] {
    const auto client = fixture.Client();
    client->Get("/call", [&](const char* data, size_t size) {
      received.append(data, size);
      begun = true;
      return true;
    });
  });
  const auto call = fixture.http.AwaitCall();
  call->exchange->Begin({});
  call->exchange->Write("before ");
  EXPECT_TRUE(call->AwaitWritten(1));
  while (!begun) std::this_thread::yield();

  fixture.Write(next.Sign());
  EXPECT_TRUE(*fixture.certificates->Refresh());
  EXPECT_EQ(Hello(*fixture.Client(next)), "hello");
  EXPECT_EQ(Hello(*fixture.Client()), "");

  call->exchange->Write("after");
  call->exchange->End();
  before.join();
  EXPECT_EQ(received, "before after");
}

}  // namespace
}  // namespace mea::testing
