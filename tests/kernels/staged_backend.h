#pragma once

#include <memory>

#include "kernels/backend.h"

namespace mea {

// A device's back end for operands in host memory: every op uploads them, runs, and downloads what
// it wrote, so that one test serves all back ends. Strides stay as they are; operands at one
// address share their copy. A failure of the device ends the program.
std::unique_ptr<Backend> MakeStaged(Backend* device);

}  // namespace mea
