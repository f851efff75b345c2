#pragma once

#include <string>

namespace mea {

std::string Version();  // as tools/version prints it: "0.1.0+1234.g1a2b3c4d5e6f"
std::string Build();    // compiler and build type: "g++ 12.2.0, Release"
// What computes: "CPU Intel(R) Xeon(R) ..., 2 threads".
std::string DeviceName(int num_threads);

}  // namespace mea
