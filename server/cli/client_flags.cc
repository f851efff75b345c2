#include "server/cli/client_flags.h"

namespace mea {

void AddClientFlags(CLI::App& command, ClientCredentials& credentials) {
  const char* group = "TLS and keys";
  command
      .add_option("--tls-ca", credentials.tls_ca,
                  "TLS, with a server whose certificate one of these has signed; of public ones: "
                  "/etc/ssl/certs/ca-certificates.crt")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--tls-cert", credentials.tls_cert, "Own certificate, for mutual TLS")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--tls-key", credentials.tls_key, "Its key, without a pass phrase")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--api-key-file", credentials.api_key_file,
                  "File with the API key; default: the environment's MEA_API_KEY")
      ->type_name("FILE")
      ->group(group);
}

}  // namespace mea
