#pragma once

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "server/server.h"
#include "server/access/certificates.h"

namespace mea {

// The flags of `mea serve` that say who may come in.
struct AccessFlags {
  TlsFiles tls;

  void AddTo(CLI::App& command);
  // Reads their files into `options`. What is wrong is one line that names flag or file.
  absl::Status Apply(ServerOptions& options) const;
};

}  // namespace mea
