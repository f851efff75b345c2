#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/status.h"
#include "server/access/certificates.h"
#include "server/server.h"

namespace mea {

// The flags of `mea serve` that say who may come in.
struct AccessFlags {
  TlsFiles tls;
  std::string api_key_file;
  bool open_metrics = false;
  bool insecure = false;

  void AddTo(CLI::App& command);
  // Reads their files into `options`, whose addresses are set already. What is wrong is one line
  // that names flag or file; so is an address that lets in whoever reaches it, unless that is
  // meant.
  absl::Status Apply(ServerOptions& options) const;
};

}  // namespace mea
