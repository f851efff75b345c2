#include "server/cli/access_flags.h"

namespace mea {

void AccessFlags::AddTo(CLI::App& command) {
  const char* group = "Who may come in";
  command
      .add_option("--tls-cert", tls.cert,
                  "TLS on all ports: the server's certificate in PEM, then those that signed it; "
                  "read again when it changes, as the other files here")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--tls-key", tls.key, "Its key in PEM, without a pass phrase")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--tls-client-ca", tls.client_ca,
                  "Mutual TLS: only clients with a certificate signed by one of these")
      ->type_name("FILE")
      ->group(group);
}

absl::Status AccessFlags::Apply(ServerOptions& options) const {
  if (tls.cert.empty() != tls.key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together");
  }
  if (tls.cert.empty() && !tls.client_ca.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca needs --tls-cert and --tls-key");
  }
  if (!tls.cert.empty()) {
    auto certificates = Certificates::Load(tls);
    if (!certificates.ok()) return certificates.status();
    options.certificates = *std::move(certificates);
  }
  return absl::OkStatus();
}

}  // namespace mea
