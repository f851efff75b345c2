#include "server/access/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/access/test_certificates.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A server's files, whole.
class CertificatesTest : public ::testing::Test {
 protected:
  void Write(const TestCertificate& own) {
    files_.Write("cert.pem", own.cert);
    files_.Write("key.pem", own.key);
  }
  TlsFiles Files() const { return {files_.Path("cert.pem"), files_.Path("key.pem"), ""}; }
  // Why the files are refused; on one line.
  std::string Refusal(const TlsFiles& files) const {
    const auto loaded = Certificates::Load(files);
    EXPECT_FALSE(loaded.ok());
    const std::string message(loaded.status().message());
    EXPECT_THAT(message, Not(HasSubstr("\n")));
    return message;
  }

  const TestAuthority authority_;
  const TestFiles files_;
};

TEST_F(CertificatesTest, WholeFilesAreTaken) {
  Write(authority_.Sign());
  const auto loaded = Certificates::Load(Files());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_GT((*loaded)->state()->not_after, absl::Now() + absl::Minutes(50));
  EXPECT_LT((*loaded)->state()->not_after, absl::Now() + absl::Minutes(70));
}

TEST_F(CertificatesTest, AChainIsTakenAndItsBrokenEndRefused) {
  TestCertificate own = authority_.Sign();
  own.cert += authority_.cert();
  Write(own);
  EXPECT_TRUE(Certificates::Load(Files()).ok());
  own.cert += "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n";
  Write(own);
  EXPECT_THAT(Refusal(Files()), HasSubstr("cert.pem: "));
}

TEST_F(CertificatesTest, AFileThatIsNotThereIsNamed) {
  Write(authority_.Sign());
  TlsFiles files = Files();
  files.key = files_.Path("nowhere.pem");
  EXPECT_THAT(Refusal(files), HasSubstr("nowhere.pem: cannot be read: No such file"));
}

TEST_F(CertificatesTest, WhatIsNoPemIsNamed) {
  Write(authority_.Sign());
  files_.Write("cert.pem", "no certificate");
  EXPECT_THAT(Refusal(Files()), HasSubstr("cert.pem: no certificate in PEM: "));
  Write(authority_.Sign());
  files_.Write("key.pem", "");
  EXPECT_THAT(Refusal(Files()), HasSubstr("key.pem: no private key in PEM: "));
}

TEST_F(CertificatesTest, AnOversizedFileIsNotRead) {
  Write(authority_.Sign());
  files_.Write("cert.pem", std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(Refusal(Files()), HasSubstr("cert.pem: has more than 1048576 bytes"));
}

TEST_F(CertificatesTest, TheKeyOfAnotherCertificateIsRefused) {
  TestCertificate own = authority_.Sign();
  own.key = authority_.Sign().key;
  Write(own);
  EXPECT_THAT(Refusal(Files()), HasSubstr("key.pem: is not the key of the certificate in "));
}

TEST_F(CertificatesTest, WhatHasExpiredOrHasNotBegunIsRefused) {
  Write(authority_.Sign({.ends_s = -60}));
  EXPECT_THAT(Refusal(Files()), HasSubstr("cert.pem: expired at "));
  Write(authority_.Sign({.begins_s = 600}));
  EXPECT_THAT(Refusal(Files()), HasSubstr("cert.pem: is not valid before "));
}

TEST_F(CertificatesTest, ClientsAuthoritiesAreRead) {
  Write(authority_.Sign());
  TlsFiles files = Files();
  files.client_ca = files_.Write("ca.pem", authority_.cert());
  const auto loaded = Certificates::Load(files);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE((*loaded)->wants_client_certificates());
  files_.Write("ca.pem", "");
  EXPECT_THAT(Refusal(files), HasSubstr("ca.pem: no certificate in PEM: "));
}

TEST_F(CertificatesTest, OnlyChangesAreTaken) {
  Write(authority_.Sign());
  const auto certificates = *Certificates::Load(Files());
  EXPECT_FALSE(*certificates->Refresh());
  const auto before = certificates->state();
  Write(authority_.Sign());
  EXPECT_TRUE(*certificates->Refresh());
  EXPECT_GT(certificates->state()->version, before->version);
  EXPECT_NE(certificates->state()->cert, before->cert);
}

TEST_F(CertificatesTest, AChangeThatIsWrongKeepsWhatWasAndIsToldOnce) {
  const TestCertificate own = authority_.Sign();
  Write(own);
  const auto certificates = *Certificates::Load(Files());
  const auto before = certificates->state();
  files_.Write("cert.pem", authority_.Sign().cert);  // the key has not come yet
  EXPECT_THAT(std::string(certificates->Refresh().status().message()), HasSubstr("is not the key"));
  EXPECT_FALSE(*certificates->Refresh());
  EXPECT_EQ(certificates->state(), before);
  Write(own);
  EXPECT_FALSE(*certificates->Refresh());
  files_.Write("cert.pem", authority_.Sign().cert);
  EXPECT_FALSE(certificates->Refresh().ok()) << "another change: told again";
}

}  // namespace
}  // namespace mea::testing
