#include "tests/server/access/test_certificates.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "kernels/check.h"

namespace mea::testing {
namespace {

std::shared_ptr<EVP_PKEY> NewKey() { return {EVP_EC_gen("P-256"), EVP_PKEY_free}; }

template <typename Write>
std::string Pem(Write write) {
  const std::unique_ptr<BIO, void (*)(BIO*)> bio(BIO_new(BIO_s_mem()), BIO_free_all);
  MEA_CHECK(write(bio.get()) == 1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);  // NOLINT: OpenSSL's type
  return {text, static_cast<size_t>(size)};
}

void Extend(X509* cert, int kind, const std::string& value) {
  const std::unique_ptr<X509_EXTENSION, void (*)(X509_EXTENSION*)> extension(
      X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str()), X509_EXTENSION_free);
  MEA_CHECK(extension != nullptr);
  X509_add_ext(cert, extension.get(), -1);
}

std::shared_ptr<X509> NewCertificate(const std::string& name, EVP_PKEY* key, int begins_s,
                                     int ends_s) {
  static long serial = 0;  // NOLINT: OpenSSL's type
  std::shared_ptr<X509> cert(X509_new(), X509_free);
  X509_set_version(cert.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(cert.get()), begins_s);
  X509_gmtime_adj(X509_getm_notAfter(cert.get()), ends_s);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_pubkey(cert.get(), key);
  return cert;
}

std::string PemOf(X509* cert) {
  return Pem([&](BIO* bio) { return PEM_write_bio_X509(bio, cert); });
}

}  // namespace

TestAuthority::TestAuthority()
    : key_(NewKey()), cert_(NewCertificate("mea test CA", key_.get(), -3600, 3600)) {
  X509_set_issuer_name(cert_.get(), X509_get_subject_name(cert_.get()));
  Extend(cert_.get(), NID_basic_constraints, "critical,CA:TRUE");
  Extend(cert_.get(), NID_key_usage, "critical,keyCertSign");
  MEA_CHECK(X509_sign(cert_.get(), key_.get(), EVP_sha256()) > 0);
  cert_pem_ = PemOf(cert_.get());
}

TestCertificate TestAuthority::Sign(const TestCertificateOptions& options) const {
  const std::shared_ptr<EVP_PKEY> key = NewKey();
  const auto cert = NewCertificate(options.name, key.get(), options.begins_s, options.ends_s);
  X509_set_issuer_name(cert.get(), X509_get_subject_name(cert_.get()));
  const bool is_address = options.name.find_first_not_of("0123456789.") == std::string::npos;
  Extend(cert.get(), NID_subject_alt_name, (is_address ? "IP:" : "DNS:") + options.name);
  Extend(cert.get(), NID_ext_key_usage, options.client ? "clientAuth" : "serverAuth");
  MEA_CHECK(X509_sign(cert.get(), key_.get(), EVP_sha256()) > 0);
  return {.cert = PemOf(cert.get()), .key = Pem([&](BIO* bio) {
                                       return PEM_write_bio_PKCS8PrivateKey(
                                           bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
                                     })};
}

TestFiles::TestFiles() {
  std::string pattern = std::filesystem::temp_directory_path() / "mea-test-XXXXXX";
  MEA_CHECK(mkdtemp(pattern.data()) != nullptr);
  dir_ = pattern;
}

TestFiles::~TestFiles() {
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

std::string TestFiles::Write(const std::string& name, const std::string& text) const {
  const std::string path = Path(name);
  std::ofstream(path + ".new") << text;
  std::filesystem::rename(path + ".new", path);
  return path;
}

}  // namespace mea::testing
