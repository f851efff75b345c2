#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace mea::testing {

// How one run of the program ended.
struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// `before` goes before the command in the shell.
inline Outcome RunMea(const std::string& arguments, const std::string& input = "",
                      const std::string& before = "") {
  const std::string dir = ::testing::TempDir() + "mea_cli_" + std::to_string(getpid());
  std::filesystem::create_directories(dir);
  std::ofstream(dir + "/in") << input;
  const std::string command = before + std::string(MEA_BINARY) + " " + arguments + " <" + dir +
                              "/in >" + dir + "/out 2>" + dir + "/err";
  const int status = std::system(command.c_str());
  Outcome outcome{WIFEXITED(status) ? WEXITSTATUS(status) : -1, ReadFile(dir + "/out"),
                  ReadFile(dir + "/err")};
  std::filesystem::remove_all(dir);
  return outcome;
}

}  // namespace mea::testing
