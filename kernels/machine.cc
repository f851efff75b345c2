#include "kernels/machine.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace mea {
namespace {

namespace fs = std::filesystem;

std::string Contents(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return in ? text.str() : "";
}

// The number at the beginning of `text`, after spaces; nothing for "max" and other words.
std::optional<int64_t> Number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> NumberIn(const fs::path& file) { return Number(Contents(file)); }

// The number behind `name` at the start of a line, as in "MemTotal: 24 kB" and "inactive_file 12".
std::optional<int64_t> NumberAfter(const std::string& text, std::string_view name) {
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    if (line.starts_with(name)) return Number(std::string_view(line).substr(name.size()));
  }
  return std::nullopt;
}

// The number of processors in a list like "0-3,8".
int CountOfList(const std::string& list) {
  int64_t count = 0;
  for (const std::string& range : std::vector<std::string>(absl::StrSplit(list, ','))) {
    const std::optional<int64_t> first = Number(range);
    if (!first) continue;
    const size_t dash = range.find('-');
    const std::optional<int64_t> last =
        dash == range.npos ? first : Number(std::string_view(range).substr(dash + 1));
    if (last && *last >= *first) count += *last - *first + 1;
  }
  return static_cast<int>(std::min<int64_t>(count, std::numeric_limits<int>::max()));
}

// A space in a path of mountinfo is written \040.
std::string Unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 4], code, 8).ptr == &text[i + 4]) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// A hierarchy of control groups that may hold a controller's files, as it is mounted here.
struct Hierarchy {
  bool is_v2 = false;
  std::string group;  // this process's, from the top of the hierarchy
  std::string top;    // the group that the mount point shows
  fs::path mount;
};

bool IsListed(const std::string& list, std::string_view name) {
  const std::vector<std::string> names = absl::StrSplit(list, ',');
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Those of `controller`: its own v1 hierarchy, that of v2, or both if only one has its files.
std::vector<Hierarchy> HierarchiesOf(const fs::path& root, std::string_view controller) {
  std::vector<Hierarchy> found;
  const std::vector<std::string> mounts =
      absl::StrSplit(Contents(root / "proc/self/mountinfo"), '\n');
  // "4:memory:/a" is a line of v1, "0::/a" that of v2.
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(Contents(root / "proc/self/cgroup"), '\n'))) {
    const std::vector<std::string> group = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (group.size() != 3) continue;
    const bool is_v2 = group[0] == "0" && group[1].empty();
    if (!is_v2 && !IsListed(group[1], controller)) continue;
    for (const std::string& mount : mounts) {
      // "31 23 0:28 TOP MOUNT_POINT options ... - TYPE source OPTIONS"
      const std::vector<std::string> halves = absl::StrSplit(mount, absl::MaxSplits(" - ", 1));
      if (halves.size() != 2) continue;
      const std::vector<std::string> before = absl::StrSplit(halves[0], ' ');
      const std::vector<std::string> after = absl::StrSplit(halves[1], ' ');
      if (before.size() < 5 || after.size() < 3) continue;
      if (is_v2 ? after[0] != "cgroup2" : after[0] != "cgroup" || !IsListed(after[2], controller)) {
        continue;
      }
      const fs::path point = Unescaped(before[4]);
      found.push_back({is_v2, group[2], Unescaped(before[3]), root / point.relative_path()});
      break;
    }
  }
  return found;
}

// Calls visit(directory, name) for the group of this process and all above that can be seen.
void ForEachGroup(const Hierarchy& hierarchy,
                  const std::function<void(const fs::path&, const std::string&)>& visit) {
  const std::string& top = hierarchy.top;
  const std::string prefix = top == "/" ? top : top + "/";
  fs::path group = "/";
  // A container may see its own group at the mount point, whatever its name is outside.
  if (hierarchy.group.starts_with(prefix)) group /= hierarchy.group.substr(prefix.size());
  for (group = group.lexically_normal();; group = group.parent_path()) {
    visit(hierarchy.mount / group.relative_path(), group.string());
    if (group == group.parent_path()) return;
  }
}

void LimitMemory(MachineLimits& limits, int64_t bytes, int64_t available, std::string source) {
  if (bytes < limits.memory_bytes) {
    limits.memory_bytes = bytes;
    limits.memory_source = std::move(source);
  }
  limits.available_bytes = std::clamp<int64_t>(available, 0, limits.available_bytes);
}

void LimitCpus(MachineLimits& limits, int64_t cpus, std::string source) {
  cpus = std::max<int64_t>(cpus, 1);
  if (cpus >= limits.cpus) return;
  limits.cpus = static_cast<int>(cpus);
  limits.cpus_source = std::move(source);
}

void LimitByMemoryOf(const fs::path& dir, const std::string& name, bool is_v2,
                     MachineLimits& limits) {
  const std::optional<int64_t> used =
      NumberIn(dir / (is_v2 ? "memory.current" : "memory.usage_in_bytes"));
  const std::string stat = Contents(dir / "memory.stat");
  int64_t files = 0;
  for (const char* kind : {"inactive_file ", "active_file "}) {
    files += NumberAfter(stat, is_v2 ? kind : absl::StrCat("total_", kind)).value_or(0);
  }
  // Above memory.high a process is not killed but slowed down.
  const std::vector<std::string> files_of_limits =
      is_v2 ? std::vector<std::string>{"memory.max", "memory.high"}
            : std::vector<std::string>{"memory.limit_in_bytes"};
  for (const std::string& file : files_of_limits) {
    const std::optional<int64_t> bytes = NumberIn(dir / file);
    if (!bytes) continue;
    LimitMemory(limits, *bytes, *bytes - std::max<int64_t>(used.value_or(0) - files, 0),
                absl::StrCat(file, " of cgroup ", name));
  }
}

void LimitByQuotaOf(const fs::path& dir, const std::string& name, bool is_v2,
                    MachineLimits& limits) {
  std::optional<int64_t> quota;
  std::optional<int64_t> period;
  if (is_v2) {  // "150000 100000"
    const std::string text = Contents(dir / "cpu.max");
    quota = Number(text);
    period = Number(std::string_view(text).substr(std::min(text.find(' '), text.size())));
  } else {
    quota = NumberIn(dir / "cpu.cfs_quota_us");
    period = NumberIn(dir / "cpu.cfs_period_us");
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return;
  LimitCpus(limits, *quota / *period + (*quota % *period != 0),
            absl::StrCat(is_v2 ? "cpu.max" : "cpu.cfs_quota_us", " of cgroup ", name));
}

}  // namespace

MachineLimits ReadMachineLimits(const fs::path& root) {
  constexpr int64_t kKiB = 1024;
  const std::string memory = Contents(root / "proc/meminfo");
  const int64_t total =
      NumberAfter(memory, "MemTotal:").value_or(std::numeric_limits<int64_t>::max() / kKiB) * kKiB;
  MachineLimits limits{.memory_bytes = total, .memory_source = "RAM", .available_bytes = total};
  if (const auto available = NumberAfter(memory, "MemAvailable:")) {
    limits.available_bytes = std::min(total, *available * kKiB);
  }
  for (const Hierarchy& hierarchy : HierarchiesOf(root, "memory")) {
    ForEachGroup(hierarchy, [&](const fs::path& dir, const std::string& name) {
      LimitByMemoryOf(dir, name, hierarchy.is_v2, limits);
    });
  }

  const std::string status = Contents(root / "proc/self/status");
  // This limits address space, but people set it to limit memory.
  if (const auto bytes = NumberAfter(Contents(root / "proc/self/limits"), "Max address space")) {
    const int64_t used = NumberAfter(status, "VmSize:").value_or(0) * kKiB;
    LimitMemory(limits, *bytes, *bytes - used, "ulimit -v");
  }

  const int online = CountOfList(Contents(root / "sys/devices/system/cpu/online"));
  limits.cpus =
      online > 0 ? online : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  limits.cpus_source = "processors";
  constexpr std::string_view kAllowed = "Cpus_allowed_list:";
  if (const size_t at = status.find(kAllowed); at != status.npos) {
    const size_t begin = at + kAllowed.size();
    const int allowed = CountOfList(status.substr(begin, status.find('\n', begin) - begin));
    if (allowed > 0) LimitCpus(limits, allowed, "affinity");
  }
  for (const Hierarchy& hierarchy : HierarchiesOf(root, "cpu")) {
    ForEachGroup(hierarchy, [&](const fs::path& dir, const std::string& name) {
      LimitByQuotaOf(dir, name, hierarchy.is_v2, limits);
    });
  }
  return limits;
}

int UsableCpus() {
  static const int cpus = ReadMachineLimits().cpus;
  return cpus;
}

std::string ProcessorName(const std::filesystem::path& root) {
  std::ifstream info(root / "proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != line.npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace mea
