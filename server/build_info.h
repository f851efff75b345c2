#pragma once

#include <string>

namespace mea {

std::string Version();  // "0.1.0"
std::string Build();    // compiler and build type: "g++ 12.2.0, Release"
// What computes: "CPU Intel(R) Xeon(R) ..., 2 threads".
std::string DeviceName(int num_threads);

}  // namespace mea
