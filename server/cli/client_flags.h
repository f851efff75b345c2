#pragma once

#include <CLI/CLI.hpp>

#include "server/cli/client.h"

namespace mea {

void AddClientFlags(CLI::App& command, ClientCredentials& credentials);

}  // namespace mea
