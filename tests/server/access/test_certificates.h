#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <utility>

namespace mea::testing {

// A certificate and its key, in PEM.
struct TestCertificate {
  std::string cert;
  std::string key;
};

struct TestCertificateOptions {
  std::string name = "127.0.0.1";  // an address, or else a host
  bool client = false;             // to show a server who one is
  int begins_s = -3600;            // from now
  int ends_s = 3600;
};

// Signs certificates, as the one whom an operator trusts does.
class TestAuthority {
 public:
  TestAuthority();
  TestCertificate Sign(const TestCertificateOptions& options = {}) const;
  const std::string& cert() const { return cert_pem_; }

 private:
  std::shared_ptr<EVP_PKEY> key_;
  std::shared_ptr<X509> cert_;
  std::string cert_pem_;
};

// Files in a directory of the test's own.
class TestFiles {
 public:
  TestFiles();
  ~TestFiles();
  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  // Replaces the file at once, as careful operators do. Returns its path.
  std::string Write(const std::string& name, const std::string& text) const;

 private:
  std::string dir_;
};

}  // namespace mea::testing
