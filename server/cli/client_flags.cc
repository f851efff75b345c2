#include "server/cli/client_flags.h"

namespace mea {

void AddClientFlags(CLI::App& command, std::string& server, ClientCredentials& credentials) {
  command.add_option("--server", server, "gRPC address of the server")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  const char* group = "TLS and keys";
  command
      .add_option("--tls-ca", credentials.tls_ca,
                  "Use TLS and trust servers whose certificate is signed by one of these; for "
                  "public ones /etc/ssl/certs/ca-certificates.crt")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--tls-cert", credentials.tls_cert,
                  "The client's own certificate, for mutual TLS")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--tls-key", credentials.tls_key, "Its private key, without a pass phrase")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--api-key-file", credentials.api_key_file,
                  "File with the API key; default: MEA_API_KEY in the environment")
      ->type_name("FILE")
      ->group(group);
}

}  // namespace mea
