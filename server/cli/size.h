#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "kernels/machine.h"

namespace mea {

// The transform of an option that is a size: "512", "1.5GiB", "4Gi", "24G", "800 MB" to bytes. KB,
// MB, GB, TB are powers of 1000, KiB.., Ki.. and K.. of 1024.
CLI::Validator SizeInBytes();

// The limits in one line, as `mea plan` and `mea inspect` show them.
std::string MachineText(const MachineLimits& machine);

}  // namespace mea
