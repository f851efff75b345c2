#include "tests/house/rules.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

namespace mea::house {
namespace {

constexpr int kMaxLines = 600;

using Prefixes = std::vector<std::string_view>;

bool StartsWithAny(std::string_view text, const Prefixes& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return text.starts_with(prefix); });
}

// What the files whose path starts with `path` may include of the project. The first row that fits
// a file decides.
struct Direction {
  std::string_view path;
  Prefixes may_include;
};

const std::vector<Direction>& Directions() {
  static const std::vector<Direction> directions = {
      {"kernels/", {"kernels/"}},
      // The one place that asks the back end for the memory of the cache.
      {"kvcache/kv_cache.cc", {"kvcache/", "kernels/"}},
      {"kvcache/",
       {"kvcache/", "kernels/tensor.h", "kernels/dtype.h", "kernels/paged_kv.h",
        "kernels/check.h"}},
      {"engine/", {"engine/", "kvcache/", "kernels/"}},
      {"proto/", {"mea/v1/", "smg/grpc/", "vllm/grpc/", "xds/"}},
      // How sizes read, how statuses travel and what this machine is are the same in all rooms;
      // what has memory is not the server's.
      {"server/",
       {"server/", "engine/", "mea/v1/", "opentelemetry/", "kernels/human_bytes.h",
        "kernels/machine.h", "kernels/status_macros.h"}},
      {"tests/", {""}},
      {"tools/", {""}},
  };
  return directions;
}

// Libraries of others that only some files may see.
struct Library {
  std::string_view name;
  Prefixes headers;
  Prefixes only_in;
};

const std::vector<Library>& Libraries() {
  static const std::vector<Library> libraries = {
      {"CUDA",
       {"cuda", "cublas", "curand", "cooperative_groups", "cute/", "cutlass/", "mma.h", "nvtx",
        "nvrtc", "driver_types.h", "vector_types.h", "device_launch_parameters.h"},
       {"kernels/cuda/", "tests/kernels/cuda/", "tests/simt/"}},
      {"gRPC and protobuf",
       {"grpc", "google/", "mea/v1/", "smg/grpc/", "vllm/grpc/", "xds/"},
       {"proto/", "server/", "tests/"}},
      {"OpenTelemetry", {"opentelemetry/"}, {"server/traces/", "tests/server/"}},
      {"HTTP and metrics", {"httplib", "prometheus/"}, {"server/", "tests/"}},
      {"Boost", {"boost/"}, {"server/http/"}},
      {"OpenSSL", {"openssl/"}, {"server/access/", "tests/server/"}},
      {"ZeroMQ", {"zmq"}, {"server/kv_events/"}},
      {"logging", {"spdlog/"}, {"server/log.cc"}},
      {"xgrammar", {"xgrammar/", "dlpack/", "picojson"}, {"engine/grammar/xgrammar_library.cc"}},
      {"Eigen", {"Eigen/"}, {"engine/convert/", "tests/engine/convert/"}},
      {"Highway", {"hwy/"}, {"kernels/", "tests/kernels/", "tests/bench/"}},
  };
  return libraries;
}

constexpr std::array<std::string_view, 7> kRooms = {"engine", "kernels", "kvcache", "proto",
                                                    "server", "tests",   "tools"};

bool IsProject(std::string_view header) {
  return std::any_of(kRooms.begin(), kRooms.end(), [&](std::string_view room) {
    return header.starts_with(room) && header.substr(room.size()).starts_with('/');
  });
}

bool IsProto(std::string_view header) { return header.find(".pb.h") != header.npos; }

struct Include {
  std::string header;
  bool quoted;
};

// The header named by a line, if the line is an #include.
std::optional<Include> ParseInclude(std::string_view line) {
  auto skip_blanks = [&] {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  };
  skip_blanks();
  if (!line.starts_with('#')) return std::nullopt;
  line.remove_prefix(1);
  skip_blanks();
  if (!line.starts_with("include")) return std::nullopt;
  line.remove_prefix(std::string_view("include").size());
  skip_blanks();
  if (line.empty() || (line[0] != '"' && line[0] != '<')) return std::nullopt;
  const bool quoted = line[0] == '"';
  const size_t end = line.find(quoted ? '"' : '>', 1);
  if (end == line.npos) return std::nullopt;
  return Include{std::string(line.substr(1, end - 1)), quoted};
}

std::vector<Include> IncludesOf(const SourceFile& file) {
  std::vector<Include> includes;
  std::istringstream lines(file.text);
  for (std::string line; std::getline(lines, line);) {
    if (auto include = ParseInclude(line)) includes.push_back(*include);
  }
  return includes;
}

bool IsHeader(std::string_view path) { return path.ends_with(".h") || path.ends_with(".cuh"); }

bool IsSource(std::string_view path) {
  return IsHeader(path) || path.ends_with(".cc") || path.ends_with(".cu");
}

// Files that people read and change by hand; data and generated listings are not counted.
bool IsWritten(std::string_view path) {
  return IsSource(path) || path.ends_with(".py") || path.ends_with(".proto") ||
         path.ends_with("CMakeLists.txt");
}

}  // namespace

std::vector<std::string> LayeringViolations(const SourceFile& file) {
  std::vector<std::string> violations;
  auto report = [&](const Include& include, std::string_view why) {
    violations.push_back(file.path + " includes " + include.header + ": " + std::string(why));
  };
  const auto& directions = Directions();
  const auto direction =
      std::find_if(directions.begin(), directions.end(),
                   [&](const Direction& d) { return file.path.starts_with(d.path); });
  if (direction == directions.end()) return {file.path + " is in no room"};

  bool sees_proto = false;
  bool sees_engine = false;
  for (const Include& include : IncludesOf(file)) {
    const std::string& header = include.header;
    sees_proto |= IsProto(header);
    sees_engine |= header.starts_with("engine/") && header != "engine/clock.h";
    if (header.starts_with("../") || header.starts_with("./")) {
      report(include, "paths start at the root");
    }
    if (IsProject(header) && !StartsWithAny(header, direction->may_include)) {
      report(include, file.path.substr(0, file.path.find('/')) + " does not depend on it");
    }
    for (const Library& library : Libraries()) {
      const bool of_library = !IsProject(header) && StartsWithAny(header, library.headers);
      if (of_library && !StartsWithAny(file.path, library.only_in)) {
        report(include, std::string(library.name) + " is not for this room");
      }
    }
  }
  if (sees_proto && sees_engine && file.path.starts_with("server/") &&
      !file.path.starts_with("server/proto_convert")) {
    violations.push_back(
        file.path + " includes .pb.h and engine/ headers: only server/proto_convert sees both");
  }
  return violations;
}

std::vector<std::string> FolderCycles(const std::vector<SourceFile>& files) {
  const auto folder_of = [](const std::string& path) { return path.substr(0, path.rfind('/')); };
  std::map<std::string, std::set<std::string>> uses;  // folders, by the one that includes them
  for (const SourceFile& file : files) {
    const std::string folder = folder_of(file.path);
    for (const Include& include : IncludesOf(file)) {
      const std::string other = IsProject(include.header) ? folder_of(include.header) : folder;
      const bool is_within = folder.starts_with(other + "/") || other.starts_with(folder + "/");
      if (other != folder && !is_within) uses[folder].insert(other);
    }
  }
  // Folders that use none of those left are in no circle.
  const auto uses_none = [&](const auto& entry) {
    return std::none_of(entry.second.begin(), entry.second.end(),
                        [&](const std::string& other) { return uses.contains(other); });
  };
  while (std::erase_if(uses, uses_none) > 0) {
  }
  std::vector<std::string> cycles;
  while (!uses.empty()) {
    std::vector<std::string> path = {uses.begin()->first};
    while (std::find(path.begin(), path.end() - 1, path.back()) == path.end() - 1) {
      const std::set<std::string>& next = uses[path.back()];
      path.push_back(*std::find_if(next.begin(), next.end(),
                                   [&](const std::string& f) { return uses.contains(f); }));
    }
    std::string cycle;
    for (auto at = std::find(path.begin(), path.end(), path.back()); at != path.end(); ++at) {
      cycle += (cycle.empty() ? "" : " -> ") + *at;
    }
    cycles.push_back(cycle);
    uses.erase(path.back());
    while (std::erase_if(uses, uses_none) > 0) {
    }
  }
  return cycles;
}

std::vector<std::string> FormViolations(const SourceFile& file) {
  std::vector<std::string> violations;
  // Highway includes a "-inl.h" once per instruction set; such a file guards itself.
  if (IsHeader(file.path) && !file.path.ends_with("-inl.h") &&
      file.text.find("#pragma once") == file.text.npos) {
    violations.push_back(file.path + " has no #pragma once");
  }
  const auto lines = std::count(file.text.begin(), file.text.end(), '\n');
  if (IsWritten(file.path) && lines > kMaxLines) {
    violations.push_back(file.path + " has " + std::to_string(lines) + " lines, more than " +
                         std::to_string(kMaxLines));
  }
  return violations;
}

std::vector<std::string> ClockViolations(const SourceFile& file) {
  // Those that write a date, or compare one.
  static const Prefixes of_dates = {"engine/bench/report.cc",
                                    "engine/clock.h",
                                    "server/access/certificates.cc",
                                    "server/bench/report.cc",
                                    "server/cli/bench_serve.cc",
                                    "server/http/",
                                    "server/openai/request_fields.cc",
                                    "server/prepare_prompt.cc",
                                    "server/vllm/info.cc"};
  static constexpr std::array<std::string_view, 4> kWaits = {"AwaitWith", "absl::CondVar",
                                                             "LockWhenWith", "absl::Notification"};
  std::vector<std::string> violations;
  if (!IsSource(file.path) || StartsWithAny(file.path, {"tests/", "tools/"})) return violations;
  for (const std::string_view clock : {"absl::Now", "absl::GetCurrentTime", "system_clock"}) {
    if (file.text.find(clock) == file.text.npos || StartsWithAny(file.path, of_dates)) continue;
    violations.push_back(file.path + " reads the wall clock: durations and deadlines use Now()");
  }
  for (const std::string_view wait : kWaits) {
    if (file.text.find(wait) == file.text.npos) continue;
    violations.push_back(file.path + " has " + std::string(wait) +
                         ", which waits by the wall clock");
  }
  return violations;
}

std::vector<std::string> RoomsWithoutReadme(const std::vector<SourceFile>& files) {
  std::vector<std::string> missing;
  for (const SourceFile& file : files) {
    if (!file.path.ends_with("/CMakeLists.txt") || file.path.starts_with("tests/")) continue;
    const std::string room = file.path.substr(0, file.path.rfind('/'));
    const bool has_readme = std::any_of(files.begin(), files.end(), [&](const SourceFile& other) {
      return other.path == room + "/README.md";
    });
    if (!has_readme) missing.push_back(room);
  }
  return missing;
}

std::vector<SourceFile> ReadRooms(const std::filesystem::path& root) {
  std::vector<SourceFile> files;
  for (std::string_view room : kRooms) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / room)) {
      const std::string path = entry.path().lexically_relative(root).generic_string();
      const bool is_readme = path.ends_with("README.md");
      if (!entry.is_regular_file() || !(IsWritten(path) || is_readme)) continue;
      std::ifstream in(entry.path());
      files.push_back({path, {std::istreambuf_iterator<char>(in), {}}});
    }
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

}  // namespace mea::house
