#include "server/access/certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/status_macros.h"
#include "server/access/small_file.h"

namespace mea {
namespace {

constexpr int64_t kMaxPemBytes = 1 << 20;
// Ciphers of TLS 1.2 with forward secrecy and authentication; all ciphers of TLS 1.3 have both.
constexpr char kCiphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr unsigned char kHttp[] = "\x08http/1.1";
constexpr unsigned char kSessionContext[] = "mea";

template <typename T, void (*kFree)(T*)>
struct Freer {
  void operator()(T* object) const { kFree(object); }
};
using X509Ptr = std::unique_ptr<X509, Freer<X509, X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY, EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, Freer<BIO, BIO_free_all>>;

// The last error of OpenSSL; clears the others.
std::string OpenSslReason() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown" : reason;
}

absl::Status Refuse(const std::string& path, std::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", absl::string_view(problem.data(), problem.size())));
}

BioPtr BioOf(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Null at the end of the text, or if the next item is not a certificate.
X509Ptr NextCertificate(BIO* pem) {
  return X509Ptr(PEM_read_bio_X509(pem, nullptr, nullptr, nullptr));
}

// Whether reading ended because there are no more certificates.
bool AtEnd() {
  const unsigned long error = ERR_peek_last_error();  // NOLINT: OpenSSL's type
  const bool end =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (end) ERR_clear_error();
  return end;
}

absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm tm{};
  if (ASN1_TIME_to_tm(time, &tm) != 1) return absl::InfiniteFuture();
  return absl::FromTM(tm, absl::UTCTimeZone());
}

absl::Status CheckDates(const X509* cert, const std::string& path) {
  const absl::Time now = absl::Now();
  const absl::Time from = TimeOf(X509_get0_notBefore(cert));
  const absl::Time until = TimeOf(X509_get0_notAfter(cert));
  if (now > until) return Refuse(path, absl::StrCat("expired at ", absl::FormatTime(until)));
  if (now < from) {
    return Refuse(path, absl::StrCat("is not valid before ", absl::FormatTime(from)));
  }
  return absl::OkStatus();
}

// Nobody is at a terminal to enter a passphrase.
int NoPassPhrase(char*, int, int, void*) { return -1; }

// Clients that offer protocols must offer ours; others may offer none.
int SelectHttp(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
               unsigned int in_size, void*) {
  unsigned char* chosen = nullptr;
  const int found = SSL_select_next_proto(&chosen, out_size, kHttp, sizeof(kHttp) - 1, in, in_size);
  *out = chosen;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

absl::Status UseCertificate(const TlsFiles& files, Certificates::State& state) {
  SSL_CTX* context = state.context.get();
  const BioPtr pem = BioOf(state.cert);
  const X509Ptr own = NextCertificate(pem.get());
  if (!own) return Refuse(files.cert, absl::StrCat("no certificate in PEM: ", OpenSslReason()));
  MEA_RETURN_IF_ERROR(CheckDates(own.get(), files.cert));
  state.not_after = TimeOf(X509_get0_notAfter(own.get()));

  const KeyPtr key(PEM_read_bio_PrivateKey(BioOf(state.key).get(), nullptr, NoPassPhrase, nullptr));
  if (!key) return Refuse(files.key, absl::StrCat("no private key in PEM: ", OpenSslReason()));
  if (X509_check_private_key(own.get(), key.get()) != 1) {
    ERR_clear_error();
    return Refuse(files.key, absl::StrCat("is not the key of the certificate in ", files.cert));
  }
  if (SSL_CTX_use_certificate(context, own.get()) != 1) return Refuse(files.cert, OpenSslReason());
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) return Refuse(files.key, OpenSslReason());
  while (const X509Ptr signer = NextCertificate(pem.get())) {
    if (SSL_CTX_add1_chain_cert(context, signer.get()) != 1) {
      return Refuse(files.cert, OpenSslReason());
    }
  }
  return AtEnd() ? absl::OkStatus() : Refuse(files.cert, OpenSslReason());
}

absl::Status UseClientCa(const TlsFiles& files, const Certificates::State& state) {
  SSL_CTX* context = state.context.get();
  const BioPtr pem = BioOf(state.client_ca);
  int count = 0;
  for (; const X509Ptr ca = NextCertificate(pem.get()); ++count) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca.get()) != 1 ||
        SSL_CTX_add_client_CA(context, ca.get()) != 1) {
      return Refuse(files.client_ca, OpenSslReason());
    }
  }
  if (!AtEnd() || count == 0) {
    return Refuse(files.client_ca, absl::StrCat("no certificate in PEM: ", OpenSslReason()));
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return absl::OkStatus();
}

absl::Status MakeContext(const TlsFiles& files, Certificates::State& state) {
  ERR_clear_error();
  state.context = std::shared_ptr<SSL_CTX>(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  SSL_CTX* context = state.context.get();
  if (context == nullptr || SSL_CTX_set_cipher_list(context, kCiphers) != 1) {
    return absl::InternalError(absl::StrCat("OpenSSL: ", OpenSslReason()));
  }
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(
      context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_alpn_select_cb(context, SelectHttp, nullptr);
  // Without it, sessions of clients with certificates could not be resumed.
  SSL_CTX_set_session_id_context(context, kSessionContext, sizeof(kSessionContext) - 1);
  MEA_RETURN_IF_ERROR(UseCertificate(files, state));
  return files.client_ca.empty() ? absl::OkStatus() : UseClientCa(files, state);
}

}  // namespace

absl::StatusOr<std::shared_ptr<Certificates::State>> Certificates::Read() const {
  auto state = std::make_shared<State>();
  const std::pair<const std::string*, std::string*> reads[] = {
      {&files_.cert, &state->cert},
      {&files_.key, &state->key},
      {&files_.client_ca, &state->client_ca}};
  for (const auto& [path, text] : reads) {
    if (path->empty()) continue;
    MEA_ASSIGN_OR_RETURN(*text, ReadSmallFile(*path, kMaxPemBytes));
  }
  return state;
}

absl::StatusOr<std::shared_ptr<Certificates>> Certificates::Load(TlsFiles files) {
  std::shared_ptr<Certificates> certificates(new Certificates(std::move(files)));
  MEA_RETURN_IF_ERROR(certificates->Refresh().status());
  return certificates;
}

absl::StatusOr<bool> Certificates::Refresh() {
  const std::shared_ptr<const State> before = state();
  absl::StatusOr<std::shared_ptr<State>> read = Read();
  absl::Status status = read.status();
  if (status.ok()) {
    State& next = **read;
    if (before && before->cert == next.cert && before->key == next.key &&
        before->client_ca == next.client_ca) {
      last_failure_.clear();
      return false;
    }
    next.version = before ? before->version + 1 : 1;
    status = MakeContext(files_, next);
  }
  if (!status.ok()) {
    std::string failure(status.message());
    if (failure == last_failure_) return false;
    last_failure_ = std::move(failure);
    return status;
  }
  last_failure_.clear();
  absl::MutexLock lock(&mu_);
  state_ = *std::move(read);
  return true;
}

std::shared_ptr<const Certificates::State> Certificates::state() const {
  absl::MutexLock lock(&mu_);
  return state_;
}

}  // namespace mea
