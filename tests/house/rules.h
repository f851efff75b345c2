#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mea::house {

struct SourceFile {
  std::string path;  // from the root of the repository, e.g. "engine/engine.cc"
  std::string text;
};

// One line per #include of `file` that goes against the direction of the rooms:
// proto <- server -> engine -> {kvcache, kernels}, kvcache -> a few headers of kernels.
std::vector<std::string> LayeringViolations(const SourceFile& file);

// One line per circle of folders that include one another, as "a -> b -> a". What lies directly in
// a folder may serve those within it and be served by them.
std::vector<std::string> FolderCycles(const std::vector<SourceFile>& files);

// One line per broken rule that is not about includes: #pragma once, length.
std::vector<std::string> FormViolations(const SourceFile& file);

// One line per use of a clock that can be set, outside of the files that write dates
// (engine/clock.h), and per wait by it: Abseil's waits with a timeout.
std::vector<std::string> ClockViolations(const SourceFile& file);

// Every room of `files` (a directory with a CMakeLists.txt) that has no README.md.
std::vector<std::string> RoomsWithoutReadme(const std::vector<SourceFile>& files);

// The files of all rooms under the repository's root, sorted by path.
std::vector<SourceFile> ReadRooms(const std::filesystem::path& root);

}  // namespace mea::house
