#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "server/client.h"

namespace mea {

inline constexpr char kDefaultServer[] = "127.0.0.1:50051";

// The flags of every command that talks to a server.
void AddClientFlags(CLI::App& command, std::string& server, ClientCredentials& credentials);

}  // namespace mea
