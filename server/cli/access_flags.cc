#include "server/cli/access_flags.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/access/exposure.h"

namespace mea {

void AccessFlags::AddTo(CLI::App& command) {
  const char* group = "Who may come in";
  command
      .add_option("--tls-cert", tls.cert,
                  "The server's certificate in PEM, followed by those that signed it: TLS on all "
                  "ports. This file and those below are read again when they change")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--tls-key", tls.key,
                  "The certificate's private key in PEM, without a pass phrase")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--tls-client-ca", tls.client_ca,
                  "Certificates in PEM; only clients with a certificate signed by one of them are "
                  "let in (mutual TLS)")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--api-key-file", api_key_file,
                  "API keys and their rights, one line each (mea key new makes them); without it "
                  "no key is needed")
      ->type_name("FILE")
      ->group(group);
  command.add_flag("--open-metrics", open_metrics, "Serve /metrics without a key")->group(group);
  command
      .add_flag("--insecure", insecure, "Let other machines in without keys or client certificates")
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
    MEA_ASSIGN_OR_RETURN(options.certificates, Certificates::Load(tls));
  }
  if (!api_key_file.empty()) {
    MEA_ASSIGN_OR_RETURN(options.access, Access::Load(api_key_file));
  }
  options.open_metrics = open_metrics;
  if (options.kv_events.endpoint.empty() && !options.kv_events.replay.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(kReplayFlag, " needs ", kPublishFlag));
  }
  for (const auto& [flag, endpoint] : {std::pair(kPublishFlag, options.kv_events.endpoint),
                                       {kReplayFlag, options.kv_events.replay}}) {
    if (insecure || endpoint.empty() || IsLocalEndpoint(endpoint)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": ", endpoint,
                     " lets other machines read the tokens of prompts, without keys or encryption: "
                     "give --insecure if that is meant"));
  }
  if (insecure || !api_key_file.empty() || !tls.client_ca.empty()) return absl::OkStatus();
  const std::pair<const char*, const std::string*> addresses[] = {
      {"--listen", &options.listen}, {"--http", &options.http}, {"--admin", &options.admin}};
  for (const auto& [flag, address] : addresses) {
    if (IsOfThisMachine(*address)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", *address,
                     " lets in whoever reaches it: give --api-key-file or "
                     "--tls-client-ca, or --insecure if that is meant"));
  }
  return absl::OkStatus();
}

}  // namespace mea
