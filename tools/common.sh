# shellcheck shell=bash
# What the developer scripts share. Sourced, never run: it moves to the root of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The comment a script opens with is its help.
usage() {
  awk 'NR > 1 && !/^#/ {exit} NR > 1 {sub(/^# ?/, ""); print}' "tools/$(basename "$0")"
  exit 0
}

# Compile jobs: one per core, but no more than one per 2 GiB of memory.
jobs() {
  local cores gib
  cores=$(nproc)
  gib=$(awk '/^MemTotal/ {print int($2 / 1048576 / 2)}' /proc/meminfo 2>/dev/null || echo "$cores")
  if [ "$gib" -lt "$cores" ]; then cores=$gib; fi
  if [ "$cores" -lt 1 ]; then cores=1; fi
  echo "$cores"
}

# The C++ files of the project, one per line: what git tracks, or what lies there when this is not a
# checkout (a source archive).
cpp_files() {
  if git -c safe.directory='*' ls-files --error-unmatch CMakeLists.txt >/dev/null 2>&1; then
    git -c safe.directory='*' ls-files -- '*.cc' '*.h' '*.cu' '*.cuh'
  else
    find engine kernels kvcache proto server tests -name '*.cc' -o -name '*.h' -o -name '*.cu' \
      -o -name '*.cuh'
  fi
}
