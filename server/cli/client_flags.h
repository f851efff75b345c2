#pragma once

#include <CLI/CLI.hpp>

#include "server/client.h"

namespace mea {

void AddClientFlags(CLI::App& command, ClientCredentials& credentials);

}  // namespace mea
