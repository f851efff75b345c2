#include "kernels/check.h"

#include <cstdio>
#include <cstdlib>

namespace mea {

void CheckFailed(std::string_view condition, std::source_location where) {
  std::fprintf(stderr, "mea: internal error at %s:%u: %.*s does not hold\n", where.file_name(),
               static_cast<unsigned>(where.line()), static_cast<int>(condition.size()),
               condition.data());
  std::abort();
}

}  // namespace mea
