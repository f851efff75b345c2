#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace mea {

// Where a server's certificate lies; all in PEM.
struct TlsFiles {
  std::string cert;       // the server's own first, then those that signed it
  std::string key;        // without a pass phrase
  std::string client_ca;  // who signs the certificates of clients; empty: clients need none
};

// The server's certificates and those it accepts from clients, according to its files. Shared by
// all ports of a server; connections keep the ones they began with. Thread-safe.
class Certificates {
 public:
  // One consistent state of the files, checked.
  struct State {
    int64_t version = 0;  // grows with each accepted state
    std::string cert, key, client_ca;
    absl::Time not_after;
    std::shared_ptr<ssl_ctx_st> context;  // TLS 1.2 and later, for HTTP/1.1
  };

  // INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED: one line that names the file and what is wrong:
  // it cannot be read, holds no PEM, has expired; the key is of another certificate.
  static absl::StatusOr<std::shared_ptr<Certificates>> Load(TlsFiles files);

  // Reads the files again: true if a new state was accepted. If the new state is wrong, the old one
  // stays and the status says why, once per change. Not from two threads at once.
  absl::StatusOr<bool> Refresh();

  std::shared_ptr<const State> state() const;
  bool wants_client_certificates() const { return !files_.client_ca.empty(); }

 private:
  explicit Certificates(TlsFiles files) : files_(std::move(files)) {}
  absl::StatusOr<std::shared_ptr<State>> Read() const;

  const TlsFiles files_;
  std::string last_failure_;  // of Refresh
  mutable absl::Mutex mu_;
  std::shared_ptr<const State> state_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mea
